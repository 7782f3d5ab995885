"""From errors to the numbers of the CNI specification (1.1.0, "Error"): the only place that knows them.

Owns: the table, and the two errors that a class alone cannot place. A refusal whose field is one of CNI's environment
variables is code 4, that of any other field code 7, because that is where the reader has to look.
Codes below 100 are the specification's, those above are this plugin's own and are listed in its documentation.
"""

from cellwall.errors import (
    AlreadyExists,
    CellwallError,
    Conflict,
    Exhausted,
    InvalidSpec,
    KernelError,
    NoPrivilege,
    NotFound,
    Unavailable,
    Unsupported,
)

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 100
ATTACHED_ALREADY = 101
CONFLICT = 102
EXHAUSTED = 103
UNSUPPORTED_HOST = 104
NO_PRIVILEGE = 105
KERNEL_REFUSED = 106
CHECK_FAILED = 107


class Refusal(InvalidSpec):
    """A refused field whose code is not told by its name: an unknown key, a wrong version, a text that is not JSON."""

    def __init__(self, code: int, field: str, value: object, reason: str) -> None:
        self.code = code
        super().__init__(field, value, reason)


class Finding(CellwallError):
    """The node or its sandboxes are not as desired: the answer of CHECK and of STATUS."""

    def __init__(self, code: int, findings: tuple[str, ...]) -> None:
        self.code = code
        self.findings = findings
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(findings[0] + more)


# the first row that fits decides, so a subclass stands before its base
_BY_CLASS: tuple[tuple[type[BaseException], int], ...] = (
    (Exhausted, EXHAUSTED),
    (Conflict, CONFLICT),
    (AlreadyExists, ATTACHED_ALREADY),
    (NotFound, UNKNOWN_CONTAINER),
    (Unsupported, UNSUPPORTED_HOST),
    (NoPrivilege, NO_PRIVILEGE),
    (KernelError, KERNEL_REFUSED),
    (Unavailable, TRY_AGAIN),
    (OSError, IO_FAILURE),
)


def code_of(error: BaseException, command: str = "") -> int:
    """The code of an error. STATUS answers every trouble of the host with "not available", and keeps those of a request
    that is wrong in itself."""
    if isinstance(error, Refusal | Finding):
        return error.code
    if isinstance(error, InvalidSpec):
        return INVALID_ENVIRONMENT if error.field.startswith("CNI_") else INVALID_CONFIG
    if command == "STATUS":
        return NOT_AVAILABLE
    if isinstance(error, BaseExceptionGroup):
        return code_of(error.exceptions[0], command)
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    return INTERNAL
