"""One code for each error, the specification's where it has one."""

from pathlib import Path

import pytest

from cellwall import errors
from cellwall.cni import codes
from cellwall.cni.codes import Finding, Refusal, code_of
from cellwall.cni.conf import AttachConf
from cellwall.cni.invocation import COMMANDS

ROWS = [
    (errors.InvalidSpec("mac", "x", "y"), 7),
    (errors.InvalidSpec("CNI_IFNAME", "x", "y"), 4),
    (Refusal(2, "ipam", {}, "y"), 2),
    (errors.NotFound("x"), 3),
    (errors.AlreadyExists("x"), 101),
    (errors.Conflict("x"), 102),
    (errors.Exhausted("x"), 103),
    (errors.Taken("mac: x", "belongs to", "y"), 102),
    (errors.Unsupported("x"), 104),
    (errors.NoPrivilege("x"), 105),
    (errors.Forbidden("x"), 105),
    (errors.KernelError(16, "x"), 106),
    (errors.Unavailable("x"), 11),
    (errors.Dismissed("x"), 11),
    (OSError(5, "x"), 5),
    (errors.Incomplete("x", [errors.KernelError(16, "x"), OSError(5, "y")]), 106),
    (ZeroDivisionError(), 100),
    (ExceptionGroup("x", [errors.KernelError(16, "x"), ValueError()]), 106),
]


@pytest.mark.parametrize(("error", "code"), ROWS)
def test_every_class_has_its_code(error: Exception, code: int) -> None:
    assert code_of(error, "ADD") == code


def test_no_class_of_the_tree_is_forgotten() -> None:
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    # the base, and what only labs raise
    assert tree - {type(error) for error, _ in ROWS} == {errors.CellwallError, errors.LabError, errors.TooBusy}


def test_status_is_not_available_whatever_the_host_lacks() -> None:
    for error in (errors.NoPrivilege("x"), errors.Unsupported("x"), errors.Unavailable("x"), ZeroDivisionError()):
        assert code_of(error, "STATUS") == 50
    assert code_of(errors.InvalidSpec("tenant", "x", "y"), "STATUS") == 7
    assert code_of(Finding(51, ("a", "b")), "STATUS") == 51


def test_a_finding_says_how_many_there_are() -> None:
    assert str(Finding(107, ("a",))) == "a"
    assert str(Finding(107, ("a", "b", "c"))) == "a (and 2 more)"


def test_the_documentation_lists_every_code_key_and_verb() -> None:
    text = (Path(__file__).parents[2] / "docs/cni.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    told = {int(word) for row in rows for word in row.split(", ") if word.isdigit()}
    assert told == {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, int)}
    named = {word.strip("`") for row in rows for word in row.replace(",", " ").split() if word.startswith("`")}
    assert {"subnets", "gateways", "tenant", "tenantFrom", "root", "dns", "capabilities", "ipMasq"} <= named
    assert set(COMMANDS) <= named
    own = set(AttachConf.__struct_encode_fields__) - {"cniVersion", "name", "runtimeConfig", "prevResult"}
    assert own <= named
