"""The job file as a JSON Schema, for editors that complete and check while one types."""

from __future__ import annotations

from dataclasses import replace

from bulksend.fields import Field, Fields, Kind, json_schema
from bulksend.job.spec import AUDIENCE, DESIRED, GUARD, POLICY
from bulksend.providers import PROVIDERS

__all__ = ["job_schema"]


def job_schema() -> dict[str, object]:
    """Return the JSON Schema of the job file, one branch per provider."""
    branches = []
    for provider in PROVIDERS.values():
        account: Fields = {
            "provider": Field(Kind.TEXT, provider.title, required=True, choices=(provider.name,)),
            "base_url": Field(Kind.TEXT, f"Default: {provider.base_url}."),
            "sandbox": Field(
                Kind.BOOLEAN, "true: no call to it reaches people; a load test that is confirmed may go there."
            ),
            **provider.account_ids,
            **provider.account_secrets,
        }
        one = json_schema(account)
        one["additionalProperties"] = {"type": "object", "description": "[account.NAME]: one of several accounts."}
        one["required"] = []
        limit = {"type": "string", "description": 'Text form: "6000/min", "600/6s", "300/min, 10/s".'}
        of_segments: dict[str, Fields] = {}
        if provider.targets is not None:
            matches = provider.targets.matches
            desired = {name: one for name, one in DESIRED.items() if name != "match" or matches}
            if matches:
                desired["match"] = replace(DESIRED["match"], choices=matches)
            of_segments = {"desired": desired, "guard": GUARD}
        branches.append(
            {
                "type": "object",
                "title": provider.title,
                "properties": {
                    "job": {"type": "string", "description": "Identity: the same name goes on, never repeats."},
                    "account": one,
                    "audience": json_schema(AUDIENCE),
                    "policy": json_schema(POLICY),
                    "limits": {
                        "type": "object",
                        "properties": dict.fromkeys(provider.endpoints, limit),
                        "additionalProperties": False,
                    },
                    **{name: json_schema(fields) for name, fields in {**provider.tables, **of_segments}.items()},
                },
                "required": ["job", "account"],
                "additionalProperties": False,
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bulksend job file",
        "anyOf": branches,
    }
