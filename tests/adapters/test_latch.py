"""The latch on the bridge: put, recognised, put right, and gone with the bridge."""

import pytest

from cellwall.adapters import process
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.model.network import Network

from .conftest import Namespace

pytestmark = pytest.mark.root

NETWORK, MARK = Network(), 0x1000
PASS_ALL = "1,6+0+0+4294967295"
OWN = "4,32+0+0+4294963220,69+0+1+4096,6+0+0+4294967295,6+0+0+2"
FROM, TO = (f"does not latch what goes {where} sandboxes without a rule" for where in ("from", "to"))


@pytest.fixture
def bridge(links: LinkLayer) -> int:
    return links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)


def shown(node: Namespace) -> list[str]:
    return [node.run(f"tc filter show dev {NETWORK.bridge} {side} pref 2") for side in ("ingress", "egress")]


def test_a_bridge_is_latched_on_both_sides(links: LinkLayer, node: Namespace, bridge: int) -> None:
    assert links.latch_differences(bridge, MARK) == (FROM, TO)
    assert links.ensure_latch(bridge, MARK)
    assert links.latch_differences(bridge, MARK) == ()
    assert all("direct-action" in side for side in shown(node))


def test_latching_twice_changes_nothing(links: LinkLayer, node: Namespace, bridge: int) -> None:
    assert links.ensure_latch(bridge, MARK)
    before = shown(node)
    assert links.ensure_latch(bridge, MARK)
    assert shown(node) == before


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("tc qdisc del dev b9_br0 clsact", (FROM, TO)),
        ("tc filter del dev b9_br0 ingress pref 2", (FROM,)),
        ("tc filter del dev b9_br0 egress pref 2", (TO,)),
        (f"tc filter replace dev b9_br0 ingress pref 2 handle 1 protocol all bpf da bytecode {PASS_ALL}", (FROM,)),
        # What it says is nobody's verdict then.
        (f"tc filter replace dev b9_br0 ingress pref 2 handle 1 protocol all bpf bytecode {OWN}", (FROM,)),
    ],
)
def test_what_was_taken_away_or_loosened_is_said_and_put_back(
    links: LinkLayer, node: Namespace, bridge: int, damage: str, missing: tuple[str, ...]
) -> None:
    assert links.ensure_latch(bridge, MARK)
    whole = shown(node)
    process.run([word.replace("+", " ") for word in damage.split()])
    assert links.latch_differences(bridge, MARK) == missing
    assert links.ensure_latch(bridge, MARK)
    assert links.latch_differences(bridge, MARK) == ()
    assert shown(node) == whole


def test_another_mark_takes_the_place_of_the_former(links: LinkLayer, node: Namespace, bridge: int) -> None:
    assert links.ensure_latch(bridge, MARK)
    assert links.ensure_latch(bridge, MARK << 1)
    assert links.latch_differences(bridge, MARK << 1) == ()
    assert links.latch_differences(bridge, MARK) == (FROM, TO)
    assert all(side.count(" bytecode ") == 1 for side in shown(node))


def test_where_nobody_marks_frames_only_what_goes_to_sandboxes_is_latched(
    links: LinkLayer, node: Namespace, bridge: int
) -> None:
    assert links.ensure_latch(bridge, MARK)
    assert links.latch_differences(bridge, MARK, frames=False) == (
        "latches what comes from sandboxes, which nobody marks",
    )
    for _ in range(2):
        assert links.ensure_latch(bridge, MARK, frames=False)
        assert links.latch_differences(bridge, MARK, frames=False) == ()
    assert links.latch_differences(bridge, MARK) == (FROM,)
    ingress, egress = shown(node)
    assert ingress == ""
    assert "bytecode" in egress


def test_it_goes_with_the_bridge(links: LinkLayer, node: Namespace, bridge: int) -> None:
    before = node.run("tc qdisc show")
    assert links.ensure_latch(bridge, MARK)
    links.delete_bridge(NETWORK)
    again = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert links.latch_differences(again, MARK) == (FROM, TO)
    assert node.run("tc qdisc show") == before


def test_one_that_is_shut_passes_nothing_until_it_is_latched_again(
    links: LinkLayer, node: Namespace, bridge: int
) -> None:
    assert links.ensure_latch(bridge, MARK)
    before = shown(node)
    for _ in range(2):
        links.shut_latch(bridge)
        assert all("6+0+0+2" in side.replace(" ", "+") or "6 0 0 2" in side for side in shown(node))
        assert all("as it was closed" in line for line in links.latch_differences(bridge, MARK))
    assert links.ensure_latch(bridge, MARK)
    assert shown(node) == before
