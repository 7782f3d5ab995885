"""Every class of error has its exit status, and every class of the tree has one."""

import errno

import pytest

from cellwall import errors
from cellwall.adapters.process import Completed, ProgramFailed
from cellwall.cli.exits import classify


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidSpec("mtu", 1, "too small"), 2),
        (errors.NotFound("x"), 3),
        (errors.AlreadyExists("x"), 4),
        (errors.Conflict("x"), 4),
        (errors.Exhausted("x"), 4),
        (errors.Unsupported("x"), 5),
        (errors.NoPrivilege("x"), 6),
        (errors.KernelError(errno.EPERM, "nft"), 6),
        (errors.KernelError(errno.EINVAL, "nft"), 1),
        (PermissionError(13, "denied"), 6),
        (errors.Unavailable("x"), 7),
        (errors.Incomplete("x", [errors.Conflict("y")]), 1),
        (errors.LabError("x"), 1),
        (ProgramFailed(Completed(("x",), 1, b"", b"")), 1),
        (OSError(5, "io"), 1),
        (ZeroDivisionError("x"), 1),
        (ExceptionGroup("tear-down", [errors.Conflict("x"), errors.NotFound("y")]), 4),
    ],
)
def test_error_has_its_status(error: Exception, status: int) -> None:
    assert classify(error)[0] == status


def test_only_what_is_not_ours_is_internal() -> None:
    assert classify(KeyError("x")) == (1, "internal")
    assert classify(errors.KernelError(errno.EINVAL, "nft")) == (1, "failed")
