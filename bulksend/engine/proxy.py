"""Which proxy a call goes through: HTTPS_PROXY or ALL_PROXY, unless NO_PROXY or this machine."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # no stub

from yarl import URL

__all__ = ["Proxies", "Proxy", "ProxyRefusedError"]


class ProxyRefusedError(Exception):
    """The environment names a proxy that cannot be used; the text never holds its user or password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: the tunnel through it is TLS to the vendor, so that it sees no more than the host's name."""

    url: URL
    headers: Mapping[str, str] | None = field(repr=False)


class Proxies:
    """The proxies of the environment, as they were when it was made.

    Not aiohttp's `trust_env`: that takes credentials from ~/.netrc too, and reads that file for every call.
    """

    def __init__(self) -> None:
        self._named: Mapping[str, str] = getproxies_environment()
        self._of: dict[str, Proxy | None] = {}

    def of(self, url: URL) -> Proxy | None:
        """Return the proxy for an address, None for none; raises ProxyRefusedError."""
        place = f"{url.raw_host}:{url.port}"
        if place not in self._of:
            self._of[place] = self._find(url, place)
        return self._of[place]

    def _find(self, url: URL, place: str) -> Proxy | None:
        # Plain http is for loopback only, and what is on this machine is on no other.
        if url.scheme != "https" or _is_here(url.raw_host or ""):
            return None
        name = "https" if self._named.get("https") else "all"
        text = self._named.get(name)
        if not text or proxy_bypass_environment(place, dict(self._named)):
            return None
        variable = f"{name.upper()}_PROXY"
        try:
            given = URL(text if "://" in text else f"http://{text}")
            host, port, user = given.host, given.port, given.user
        except ValueError:
            raise ProxyRefusedError(f"the environment's {variable} is no address such as http://proxy:3128") from None
        if given.scheme != "http" or not host or not port:
            raise ProxyRefusedError(f"the environment's {variable} must be an address such as http://proxy:3128")
        headers = None
        if user is not None:
            pair = base64.b64encode(f"{user}:{given.password or ''}".encode()).decode()
            headers = {"Proxy-Authorization": f"Basic {pair}"}
        return Proxy(URL.build(scheme="http", host=host, port=port), headers)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
