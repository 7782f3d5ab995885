"""The one place that turns what happened into an exit status.

    0   done                                  5   unsupported host: kernel feature or program missing
    1   failed                                6   no privilege
    2   usage: the request itself is wrong    7   unavailable: another process holds the lock for too long
    3   not found                             10  drift (status) or a finding that matters (doctor)
    4   conflict with the present state           11  not everything could be measured (attack)

`run` passes on the status of its command, 128 + n where signal n ended it, and as env(1) does 126 for a command that
cannot be executed and 127 for one that is not there.
"""

import errno

from cellwall.errors import (
    AlreadyExists,
    CellwallError,
    Conflict,
    Incomplete,
    InvalidSpec,
    KernelError,
    NoPrivilege,
    NotFound,
    Unavailable,
    Unsupported,
)

DONE = 0
FAILED = 1
NO_PRIVILEGE = 6
FINDING = 10
NOT_EXECUTABLE = 126
COMMAND_NOT_FOUND = 127
INTERRUPTED = 128 + 2

_STATUSES: tuple[tuple[type[BaseException], int, str], ...] = (
    (InvalidSpec, 2, "invalid"),
    (NotFound, 3, "not-found"),
    (AlreadyExists, 4, "already-exists"),
    (Conflict, 4, "conflict"),
    (Unsupported, 5, "unsupported"),
    (NoPrivilege, NO_PRIVILEGE, "no-privilege"),
    (Unavailable, 7, "unavailable"),
    (Incomplete, FAILED, "incomplete"),
    (PermissionError, NO_PRIVILEGE, "no-privilege"),
    (CellwallError, FAILED, "failed"),
    (OSError, FAILED, "failed"),
)


def classify(error: BaseException) -> tuple[int, str]:
    """The exit status of an error and its name in JSON; of another's group, those of its first member."""
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, Incomplete):
        return classify(error.exceptions[0])
    if isinstance(error, KernelError) and error.errno in (errno.EPERM, errno.EACCES):
        return NO_PRIVILEGE, "no-privilege"
    for kind, status, name in _STATUSES:
        if isinstance(error, kind):
            return status, name
    return FAILED, "internal"
