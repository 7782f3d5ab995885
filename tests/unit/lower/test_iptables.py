"""B9-FORWARD in iptables: the wall lowers to it without a change of the wall."""

from collections.abc import Callable

import pytest

from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage, usage_of
from cellwall.compile.wall import Clause, Drop, Predicate, Stage, Vouched
from cellwall.errors import InvalidSpec, Unsupported
from cellwall.lower.xt.forward import lower_forward
from cellwall.lower.xt.tables import XtChain, XtRule, XtTable, render_table
from cellwall.model.endpoint import parse_binding
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings


def _wall(usage: Usage = Usage()) -> object:  # noqa: B008 - a frozen value
    return compile_wall(Settings(), NodeFacts(), usage, uplink="eth0")


@pytest.mark.parametrize("version", [4, 6])
def test_forward_path_reads_as_the_golden(golden: Callable[[str, str], None], version: int) -> None:
    golden(f"b9-forward.v{version}.iptables", render_table(lower_forward(_wall(), version)))


def test_container_to_container_and_floor_come_before_any_accept() -> None:
    lines = render_table(lower_forward(_wall(), 4)).splitlines()
    accepts = [number for number, line in enumerate(lines) if line.endswith("-j ACCEPT")]
    isolation = next(n for n, line in enumerate(lines) if "container to container" in line)
    floor = next(n for n, line in enumerate(lines) if "the floor" in line)
    assert isolation < floor < min(accepts)


def test_forms_of_exposure_are_one_ipset_rule() -> None:
    usage = usage_of([parse_binding("80:80@93.0.0.0/8"), parse_binding("9000-9001:9000")])
    assert render_table(lower_forward(_wall(usage), 4)) == render_table(lower_forward(_wall(), 4))


def test_a_predicate_without_an_iptables_form_is_refused_by_name() -> None:
    wall = _wall()
    stages = tuple(
        Stage("related", (Clause((Vouched(),), Drop()),)) if stage.name == "related" else stage for stage in wall.stages
    )
    with pytest.raises(Unsupported) as refused:
        lower_forward(type(wall)(**{**{f: getattr(wall, f) for f in wall.__struct_fields__}, "stages": stages}), 4)
    assert (refused.value.predicate, refused.value.backend) == ("Vouched", "iptables")
    assert issubclass(Vouched, Predicate)


@pytest.mark.parametrize("word", ["a b", 'x"', "x;y", "x\ny", "$(x)"])
def test_a_word_that_needs_quoting_is_refused(word: str) -> None:
    table = XtTable("iptables-restore", "filter", (XtChain("B9-X", (XtRule(("-i", word), ("-j", "DROP")),)),))
    with pytest.raises(InvalidSpec, match="safely"):
        render_table(table)
