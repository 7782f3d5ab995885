"""The tree of errors, by what a caller can do about each.

    CellwallError
    ├── InvalidSpec        the request itself is wrong; names field and value; nothing was changed
    ├── NotFound           the named thing does not exist
    ├── AlreadyExists      the named thing exists and differs from what was asked
    ├── Conflict           the request is fine, the present state forbids it
    │   ├── Exhausted      a pool has nothing left
    │   └── Taken          somebody else has it; says who
    ├── Unsupported        this host cannot give what was asked (kernel feature, missing program)
    ├── NoPrivilege        root or a capability is missing
    │   └── Forbidden      the daemon does not do that for this caller
    ├── KernelError        the kernel refused an operation: errno, operation, the text it refused
    ├── Unavailable        the other side (lock holder, daemon) did not answer in time
    │   └── Dismissed      nor will it: the node is not this process' any more
    ├── Incomplete         done, but not everything could be cleaned up behind it: a group of what failed
    └── LabError           a throw-away world could not be built, or refused for safety
        └── TooBusy        the machine lost or held up what was to be judged in it: nothing can be said

Front ends map a class to an exit status or a CNI code in one place (`cellwall.cli.exits`,
`cellwall.cni.codes`); nothing below them knows such numbers.
"""

import errno as _errno
import os


class CellwallError(Exception):
    """Base of every error that cellwall raises on purpose; `str()` is one printable line."""


class InvalidSpec(CellwallError):
    """A field of a request or a configuration has a value that cannot be accepted."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}: {printable(value)}: {reason}")


class NotFound(CellwallError):
    """The thing a caller named does not exist."""


class AlreadyExists(CellwallError):
    """Something of that name exists already and is not what was asked for."""


class Conflict(CellwallError):
    """The request is valid but the present state forbids it."""


class Exhausted(Conflict):
    """A pool of addresses or ports has no free entry."""


class Taken(Conflict):
    """An interface, an address or a port is another container's. `what` is the message without that container, which
    not everybody may know."""

    def __init__(self, what: str, verb: str, holder: str) -> None:
        self.what = f"{what}: {verb} another container"
        super().__init__(f"{what}: {verb} container {holder}")


class Unsupported(CellwallError):
    """The host lacks a feature that this operation cannot do without.

    `predicate` and `backend` are set where a wall's statement has no expression in a backend.
    """

    def __init__(self, message: str, *, predicate: str = "", backend: str = "") -> None:
        self.predicate = predicate
        self.backend = backend
        super().__init__(message)


class NoPrivilege(CellwallError):
    """Root, or a capability, is missing."""


class Forbidden(NoPrivilege):
    """The daemon does not do that for who asked."""


class KernelError(CellwallError):
    """The kernel refused an operation. `errno` is positive; `detail` may carry the refused text."""

    def __init__(self, errno: int, operation: str, detail: str = "") -> None:
        self.errno = errno
        self.operation = operation
        self.detail = detail
        name = _errno.errorcode.get(errno, str(errno))
        tail = f": {detail}" if detail else ""
        super().__init__(f"{operation}: {os.strerror(errno)} ({name}){tail}")


class Unavailable(CellwallError):
    """A lock holder or a daemon did not answer within the time given."""


class Dismissed(Unavailable):
    """This process has nothing to do on the node any more: cellwall was uninstalled, another version laid the wall, or
    a daemon writes now."""


class Incomplete(ExceptionGroup[Exception], CellwallError):
    """The operation was carried out and what it had to clean up was not, or not all; the members say what. Repeating
    the operation, or reconcile, finds what is left."""

    def __str__(self) -> str:
        return f"{self.message}: {'; '.join(str(error) or type(error).__name__ for error in self.exceptions)}"


class LabError(CellwallError):
    """A lab could not be built, or refused to start for the safety of the machine."""


class TooBusy(LabError):
    """Whoever judges by what arrives cannot: the machine lost packets, or was too slow for what was to be tried."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the machine is too busy: {what}")


def printable(value: object, limit: int = 80) -> str:
    """`value` as one line of printable ASCII of at most `limit` characters: fit for logs and terminals."""
    text = shown(value)
    safe = text.encode("unicode_escape").decode("ascii")
    quoted = f'"{safe}"' if isinstance(value, str) else safe
    return quoted if len(quoted) <= limit else quoted[: limit - 3] + "..."


def shown(value: object) -> str:
    """`value` as text: lists, mappings, true and false as the JSON that they came as."""
    if not isinstance(value, list | tuple | dict | bool):
        return str(value)
    import msgspec  # here and not above: who refuses nothing of the kind may do without

    return msgspec.json.encode(value, enc_hook=str).decode()
