"""The OpenAPI document (3.1) of the table of calls. Pure; built once, when it is first asked for."""

import functools
from typing import Annotated, Any

import msgspec

from cellwall import __version__
from cellwall.audit.events import MAX_LIMIT
from cellwall.wire.bodies import ContainerId, LinkName, Spec, Tenant, When, Words
from cellwall.wire.calls import CALLS, CNI, Call
from cellwall.wire.problems import MEDIA_TYPE, Problem

_ABOUT = (
    "The daemon of one node's container network: `cellwall serve`, at a unix socket. Every error is a problem document "
    "(RFC 9457) whose `type` says which, with the JSON pointer of the entry that is wrong, where one is."
)
_REFUSALS = {
    "400": "The body is not JSON, or the request not HTTP.",
    "403": "Not for this caller.",
    "404": "What was named does not exist, or not for this caller.",
    "406": "Only JSON is answered.",
    "408": "The request took too long to arrive.",
    "409": "The present state forbids it.",
    "413": "The body is larger than the daemon takes.",
    "415": "Only JSON is read.",
    "422": "A value cannot be accepted.",
    "500": "It failed.",
    "501": "The host cannot do it.",
    "503": "Not now; `Retry-After` says when to ask again.",
}
_PARAMETERS: dict[str, Any] = {
    "container": ContainerId,
    "ifname": LinkName,
    "binding": Spec,
    "tenant": Tenant,
    "since": When,
    "until": When,
    "reason": Words,
    "limit": Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)],
}
_REF = "#/components/schemas/{name}"


@functools.cache
def openapi_document() -> bytes:
    """The document as JSON."""
    types = [kind for call in CALLS for kind in (call.body, call.answer) if kind is not None]
    kinds: list[Any] = [*dict.fromkeys([Problem, *types]), *_PARAMETERS.values()]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        if call is not CNI:
            paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schema_of)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "cellwall", "version": __version__, "description": _ABOUT},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _operation(call: Call, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": call.name,
        "summary": call.about,
        "tags": [call.verb],
        "parameters": _parameters(call, schema_of),
        "responses": {str(status): _answer(call, schema_of) for status in call.statuses},
    }
    problem = {"content": {MEDIA_TYPE: {"schema": schema_of[Problem]}}}
    operation["responses"] |= {status: {"description": about, **problem} for status, about in _REFUSALS.items()}
    if call.body is not None:
        operation["requestBody"] = {
            "required": not call.body_optional,
            "content": {media: {"schema": schema_of[call.body]} for media in call.media},
        }
    return operation


def _parameters(call: Call, schema_of: dict[Any, Any]) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    found = [{"name": name, "in": "path", "required": True} for name in names]
    found += [
        {"name": one.name, "in": "query", "required": one.required, "description": one.about} for one in call.query
    ]
    return [{**parameter, "schema": schema_of[_PARAMETERS[str(parameter["name"])]]} for parameter in found]


def _answer(call: Call, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {
        "description": call.about,
        "content": {"application/json": {"schema": schema_of[call.answer]}},
    }
