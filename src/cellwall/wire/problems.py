"""Errors over the socket: problem documents (RFC 9457), from the tree of errors and back into it.

    {"type": "urn:cellwall:problem:invalid", "title": "a value cannot be accepted", "status": 422,
     "detail": "mac: \"x\": is not a MAC address …", "pointer": "/endpoints/2/mac", "field": "mac", "value": "x",
     "reason": "is not a MAC address …"}

`type` says which error it is, and is what a client goes by; `status` the same for who knows HTTP alone. `detail` is the
error's own line. This is the one place that knows HTTP's numbers.
Pure.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from cellwall.errors import (
    AlreadyExists,
    CellwallError,
    Conflict,
    Exhausted,
    Forbidden,
    Incomplete,
    InvalidSpec,
    KernelError,
    LabError,
    NoPrivilege,
    NotFound,
    Unavailable,
    Unsupported,
    printable,
    shown,
)
from cellwall.wire.complaints import complaint_of
from cellwall.wire.pointers import Refused, decoder_pointer, value_at

TYPE = "urn:cellwall:problem:"
"""What every `type` begins with."""
MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document. `pointer`: where in the body (RFC 6901, "" the whole of it); `parameter`: which one of path
    or query. `incident` is in the daemon's log, beside what must not leave it. `errors`: members of an
    `incomplete`."""

    type: str
    title: str
    status: int
    detail: str = ""
    pointer: str | None = None
    parameter: str | None = None
    field: str | None = None
    value: str | int | None = None
    reason: str | None = None
    errno: int | None = None
    operation: str | None = None
    refused: str | None = None
    predicate: str | None = None
    backend: str | None = None
    incident: str | None = None
    errors: "tuple[Problem, ...]" = ()


class _Row(msgspec.Struct, frozen=True):
    kind: type[Exception]
    name: str
    status: int
    title: str


_ROWS = (  # the first that fits decides, so a subclass stands before its base
    _Row(InvalidSpec, "invalid", 422, "a value cannot be accepted"),
    _Row(NotFound, "not-found", 404, "what was named does not exist"),
    _Row(AlreadyExists, "already-exists", 409, "it exists, and is not what was asked for"),
    _Row(Exhausted, "exhausted", 409, "a pool has nothing left"),
    _Row(Conflict, "conflict", 409, "the present state forbids it"),
    _Row(Unsupported, "unsupported", 501, "the host cannot do it"),
    _Row(Forbidden, "forbidden", 403, "not for this caller"),
    _Row(NoPrivilege, "no-privilege", 500, "the daemon lacks a privilege"),
    _Row(Incomplete, "incomplete", 500, "done, but not everything could be cleaned up"),
    _Row(KernelError, "kernel-error", 500, "the kernel refused an operation"),
    _Row(Unavailable, "unavailable", 503, "not now"),
    _Row(LabError, "failed", 500, "it failed"),
    _Row(CellwallError, "failed", 500, "it failed"),
)

# What only HTTP can say of a call. A client of ours that meets one of them has another version, or met its bounds.
CallProblem = Literal[
    "malformed",
    "no-such-call",
    "method-not-allowed",
    "not-acceptable",
    "too-slow",
    "too-large",
    "unsupported-media-type",
    "expectation-failed",
    "header-too-large",
    "internal",
]
_CALLS: dict[CallProblem, tuple[int, str]] = {
    "malformed": (400, "the body is not JSON, or the request not HTTP"),
    "no-such-call": (404, "there is no such call"),
    "method-not-allowed": (405, "this method is not for that path"),
    "not-acceptable": (406, "only JSON is answered"),
    "too-slow": (408, "the request took too long to arrive"),
    "too-large": (413, "the body is larger than the daemon takes"),
    "unsupported-media-type": (415, "only JSON is read"),
    "expectation-failed": (417, "what is expected is unknown here"),
    "header-too-large": (431, "the header is larger than the daemon takes"),
    "internal": (500, "a defect of cellwall's"),
}
_LONGEST_SENT = 256
_INVALID = next(row for row in _ROWS if row.kind is InvalidSpec)


def problem_of(error: Exception, *, parameter: str | None = None) -> Problem:
    """The document of an error that cellwall raises on purpose, or of the operating system's. A defect is none of them:
    what it says stays in the daemon's log, and `call_problem` tells the caller."""
    if isinstance(error, OSError):
        error = KernelError(error.errno or 5, "the operating system", error.strerror or "")
    row = next(row for row in _ROWS if isinstance(error, row.kind))
    problem = Problem(TYPE + row.name, row.title, row.status, detail=str(error), parameter=parameter)
    return msgspec.structs.replace(problem, **_members(error))


def invalid_body(message: str, raw: bytes = b"") -> Problem:
    """What a decoder refused, by its message and the body: that is JSON, and not of the shape that the call takes."""
    complaint, place = complaint_of(message), decoder_pointer(message)
    field, value = place or "body", value_at(raw, place)
    told = "" if value is None else f"{printable(value)}: "
    return Problem(
        TYPE + _INVALID.name,
        _INVALID.title,
        _INVALID.status,
        detail=f"{field}: {told}{complaint}",
        pointer=place,
        field=field,
        value=_text(value),
        reason=complaint,
    )


def call_problem(name: CallProblem, detail: str = "", *, incident: str | None = None) -> Problem:
    """A problem with the call itself."""
    status, title = _CALLS[name]
    return Problem(TYPE + name, title, status, detail=detail, incident=incident)


def status_problem(status: int, detail: str) -> Problem:
    """What a status of HTTP alone says; one that is not listed is a request that is wrong in some way."""
    known: dict[int, CallProblem] = {number: name for name, (number, _) in _CALLS.items()}
    return call_problem(known.get(status, "malformed"), detail)


def error_of(problem: Problem) -> CellwallError:
    """The error that a document tells of, with the same line of text; one that is not in the tree is the base's."""
    name = problem.type.removeprefix(TYPE)
    error = _BUILD[name](problem) if name in _BUILD else CellwallError(problem.detail or problem.title)
    if not isinstance(error, Incomplete):
        error.args = (problem.detail or problem.title,)  # of another version, or of a value that was no text
    return error


def _members(error: Exception) -> dict[str, object]:
    """What a document has of an error beside its line."""
    if isinstance(error, InvalidSpec):
        value = error.value if type(error.value) is int else shown(error.value)
        pointer = error.pointer if isinstance(error, Refused) else None
        return {"pointer": pointer, "field": error.field, "value": value, "reason": error.reason}
    if isinstance(error, KernelError):
        return {"errno": error.errno, "operation": error.operation, "refused": error.detail or None}
    if isinstance(error, Unsupported):
        return {"predicate": error.predicate or None, "backend": error.backend or None}
    if isinstance(error, Incomplete):
        members = [_plain(member) for member in error.exceptions]
        return {"reason": error.message, "errors": tuple(problem_of(member) for member in members)}
    return {}


def _text(value: object) -> str | int | None:
    """What was sent, as a member of a document; of a long one its beginning."""
    if value is None or (type(value) is int and value.bit_length() < 64):  # a decoder takes a larger one for no integer
        return value
    text = shown(value)
    return text if len(text) <= _LONGEST_SENT else text[:_LONGEST_SENT] + "..."


def _plain(error: Exception) -> Exception:
    return error if isinstance(error, CellwallError | OSError) else CellwallError(str(error) or type(error).__name__)


def _invalid(problem: Problem) -> InvalidSpec:
    field, reason = problem.field or "body", problem.reason or problem.detail
    value = "" if problem.value is None else problem.value
    if problem.pointer is None:
        return InvalidSpec(field, value, reason)
    return Refused(problem.pointer, field, value, reason)


def _incomplete(problem: Problem) -> Incomplete:
    members = [error_of(member) for member in problem.errors]
    return Incomplete(problem.reason or problem.title, members or [CellwallError(problem.detail)])


def _unsupported(problem: Problem) -> Unsupported:
    return Unsupported(problem.detail, predicate=problem.predicate or "", backend=problem.backend or "")


def _kernel_error(problem: Problem) -> KernelError:
    return KernelError(problem.errno or 0, problem.operation or "", problem.refused or "")


_BUILD: dict[str, Callable[[Problem], CellwallError]] = {
    "invalid": _invalid,
    "not-found": lambda problem: NotFound(problem.detail),
    "already-exists": lambda problem: AlreadyExists(problem.detail),
    "exhausted": lambda problem: Exhausted(problem.detail),
    "conflict": lambda problem: Conflict(problem.detail),
    "unsupported": _unsupported,
    "forbidden": lambda problem: Forbidden(problem.detail),
    "no-privilege": lambda problem: NoPrivilege(problem.detail),
    "incomplete": _incomplete,
    "kernel-error": _kernel_error,
    "unavailable": lambda problem: Unavailable(problem.detail),
}
