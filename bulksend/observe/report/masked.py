"""The text of a job file without its secrets: what may be read by whoever a report is mailed to."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

__all__ = ["MASK", "masked", "masked_tree"]

MASK = "•••"
TEXT_MOST = 30_000
_WORDS = (
    "token",
    "secret",
    "password",
    "passphrase",
    "passwd",
    "pwd",
    "jwt",
    "cookie",
    "authorization",
    "credentials?",
    "signature",
    "sig",
)
_NAMED = rf"[\w-]*(?:{'|'.join(_WORDS)}|api[_-]?key|rest[_-]?key|access[_-]?key|private[_-]?key)s?"
_STRING = r'"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?'
_BARE = r"[^\s,}\]&#\"'\[{]+"
_SEVERAL = r"\[[^\]]*\]?|\{[^}]*\}?"
_USERINFO = re.compile(
    r"(\b[a-z][a-z0-9+.-]{0,30}://)(?:[^/\s\"':@]+:(?!\d+[/?#\"'\s])[^\s\"'@]*@|[^/\s\"'?#@]*(?:@[^/\s\"'?#@]*)*@)",
    re.IGNORECASE,
)
_PARAMETER = re.compile(rf"(?<![\w-])({_NAMED})(=)({_BARE})", re.IGNORECASE)
_MEMBER = re.compile(rf"(\\?[\"']{_NAMED}\\?[\"']\s*:\s*)(\\?[\"'])(.*?)(\2)", re.IGNORECASE)
_IN_LINK = re.compile(rf"(?<=[?&])(key|pass|auth)(=)(?!\$\{{)({_BARE})", re.IGNORECASE)
_REMARK = re.compile(rf"#[^\n\"']*(?:{_STRING})?", re.DOTALL)
_SAID = re.compile(rf"((?<![\w-]){_NAMED}[ \t]*:[ \t]+)({_STRING}|{_BARE})", re.IGNORECASE | re.DOTALL)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE)


def masked(text: str, secrets: Collection[str]) -> str:
    """Return a job file's text with the values of the fields in `secrets`, and of all that is named like one, masked.

    Wherever a field stands: in a table, inline, in a comment. `env:` and `file:` stay, so that a reader sees where
    a secret comes from, without the name. Credentials in URLs and connection texts go too. A long text is cut.
    """
    names = "|".join(re.escape(name) for name in sorted(secrets, key=len, reverse=True))
    field = rf"(?:{names}|{_NAMED})" if names else _NAMED
    value = re.compile(
        rf"((?<![\w-])[\"']?{field}[\"']?\s*=\s*)({_STRING}|{_SEVERAL}|{_BARE})", re.IGNORECASE | re.DOTALL
    )
    text = value.sub(lambda found: found[1] + _mask(found[2]), text)
    text = _REMARK.sub(lambda remark: _SAID.sub(lambda found: found[1] + _mask(found[2]), remark[0]), text)
    text = _in_texts(text)
    if len(text) > TEXT_MOST:
        return f"{text[:TEXT_MOST]}\n… ({len(text) - TEXT_MOST:,} more characters)"
    return text


def masked_tree(value: object, secrets: Collection[str]) -> object:
    """Return the tables of a job that was made in code with the same left out."""
    if isinstance(value, Mapping):
        named = re.compile(_NAMED, re.IGNORECASE)
        return {
            str(name): _mask(str(one) or "-").strip('"')
            if (name in secrets or named.fullmatch(str(name))) and not isinstance(one, Mapping)
            else masked_tree(one, secrets)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked_tree(one, secrets) for one in value]
    return _in_texts(value) if isinstance(value, str) else value


def _mask(value: str) -> str:
    """Mask one value: `"env:NAME"` becomes `"env:•••"`, anything else is gone as a whole."""
    kept = re.match(r"[\"']{0,3}(env:|file:)", value)
    quote = '"' if value[:1] in "\"'[{" else ""
    return f"{quote}{kept[1] if kept else ''}{MASK}{quote}"


def _in_texts(text: str) -> str:
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    for one in (_PARAMETER, _IN_LINK):
        text = one.sub(rf"\1\2{MASK}", text)
    text = _MEMBER.sub(rf"\1\2{MASK}\4", text)
    return _BEARER.sub(rf"\1 {MASK}", text)
