"""Every error of the tree comes out of the socket as the error that went in."""

import errno

import msgspec
import pytest

from cellwall import errors
from cellwall.wire.pointers import Refused
from cellwall.wire.problems import Problem, call_problem, error_of, problem_of

ERRORS = (
    errors.InvalidSpec("mac", "x", "is not a MAC"),
    errors.InvalidSpec("network.mtu", 7, "must be 0 or more"),
    errors.InvalidSpec("ip", None, "is missing"),
    Refused("/endpoints/2/mac", "mac", "x", "is not a MAC"),
    errors.NotFound("container id: web/eth0: is not attached"),
    errors.AlreadyExists("container id: web: is attached already"),
    errors.Conflict("expose.host_port: 80: is taken"),
    errors.Exhausted("no address is left"),
    errors.Taken("expose.host_port: 80:80/tcp", "belongs to", "web"),
    errors.Unsupported("no such thing", predicate="Unfinished", backend="iptables"),
    errors.NoPrivilege("it needs root"),
    errors.Forbidden("not for you"),
    errors.KernelError(errno.EPERM, "add a link", "the text"),
    errors.KernelError(errno.ENOSPC, "add a link"),
    errors.Unavailable("not in time"),
    errors.Dismissed("uninstalled"),
    errors.LabError("no lab"),
    errors.TooBusy("packets were lost"),
    errors.CellwallError("something"),
    errors.Incomplete("detached, but", [errors.KernelError(errno.EBUSY, "remove"), errors.NotFound("gone")]),
)
STATUSES = {
    errors.InvalidSpec: 422,
    Refused: 422,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.Conflict: 409,
    errors.Exhausted: 409,
    errors.Taken: 409,
    errors.Forbidden: 403,
    errors.Unavailable: 503,
    errors.Dismissed: 503,
    errors.Unsupported: 501,
}


def over(problem: Problem) -> Problem:
    return msgspec.json.decode(msgspec.json.encode(problem), type=Problem)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_socket(error: errors.CellwallError) -> None:
    problem = over(problem_of(error))
    back = error_of(problem)
    assert str(back) == str(error)
    assert problem.detail == str(error)
    assert problem.status == STATUSES.get(type(error), 500)
    for name in ("field", "reason", "pointer", "errno", "operation", "predicate", "backend"):
        assert getattr(back, name, None) == getattr(error, name, None), name
    told = {
        errors.LabError: errors.CellwallError,
        errors.TooBusy: errors.CellwallError,
        errors.Taken: errors.Conflict,
        errors.Dismissed: errors.Unavailable,
    }  # no caller does anything else
    assert type(back) is told.get(type(error), type(error))
    if isinstance(error, errors.Incomplete):
        assert isinstance(back, errors.Incomplete)
        assert [str(member) for member in back.exceptions] == [str(member) for member in error.exceptions]


def test_every_class_of_the_tree_is_tried() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    ours = {kind for kind in below(errors.CellwallError) if kind.__module__ == errors.__name__}
    assert ours == {type(error) for error in ERRORS} - {Refused}


def test_an_error_of_the_operating_system_keeps_its_number() -> None:
    back = error_of(over(problem_of(PermissionError(errno.EACCES, "Permission denied"))))
    assert isinstance(back, errors.KernelError)
    assert back.errno == errno.EACCES


def test_a_problem_of_the_call_itself_is_an_error_too() -> None:
    problem = call_problem("too-large", "more than 65536 bytes")
    assert (problem.status, problem.type) == (413, "urn:cellwall:problem:too-large")
    assert str(error_of(over(problem))) == "more than 65536 bytes"


def test_a_problem_of_an_unknown_type_keeps_what_it_says() -> None:
    assert str(error_of(Problem("about:blank", "Teapot", 418))) == "Teapot"
