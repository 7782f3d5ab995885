"""Whose failure it is that an interface could not be configured: who is inside answers for what they can bring about,
and the node for the rest."""

import errno

import pytest

from cellwall.engine.attachments.meddling import refuse_meddled
from cellwall.errors import Conflict, KernelError, NotFound
from scene import endpoint

WEB = endpoint("web", 2)
OURS = ("EMFILE", "ENFILE", "ENOSPC", "ETIMEDOUT", "EIO", "ENOMEM", "ENOBUFS", "EPERM", "EINTR", "EAGAIN", "ENOSYS")
THEIRS = ("ENODEV", "ENOENT", "EEXIST", "EINVAL", "ENETDOWN", "ENETUNREACH", "EADDRNOTAVAIL", "EACCES", "EOPNOTSUPP")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", OURS)
def test_what_nobody_inside_can_bring_about_is_no_conflict(name: str, inside: bool) -> None:
    refuse_meddled(WEB, KernelError(getattr(errno, name), "configure eth0 in the sandbox"), inside=inside)


@pytest.mark.parametrize("name", THEIRS)
def test_what_they_can_is_one_and_on_the_node_only_that_the_link_is_gone(name: str) -> None:
    error = KernelError(getattr(errno, name), "configure eth0 in the sandbox")
    with pytest.raises(Conflict, match="eth0 was changed while it was attached"):
        refuse_meddled(WEB, error, inside=True)
    if name != "ENODEV":
        refuse_meddled(WEB, error, inside=False)


def test_an_interface_that_is_gone_is_a_conflict_on_either_side() -> None:
    for inside in (True, False):
        with pytest.raises(Conflict):
            refuse_meddled(WEB, NotFound("no interface eth0 inside the sandbox"), inside=inside)
    with pytest.raises(Conflict):
        refuse_meddled(WEB, KernelError(errno.ENODEV, "lock the port"), inside=False)
