"""What links and rules counted last, before they end or begin anew, is counted once, and of whose it was."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cellwall.daemon.metrics.sampling import Partings
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.versions import STEM
from scene import endpoint
from unit.daemon.looked_at import Node, Watched, total

SENT, DENIED = "cellwall_tenant_sent_packets_total", "cellwall_tenant_denied_packets_total"


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


class Laid:
    """A wall that is laid anew: rules count from nothing then, and their sets unless it keeps them."""

    def __init__(self, node: Node, *, keeps_sets: bool) -> None:
        self._node, self.keeps_sets = node, keeps_sets

    def lay(self) -> str:
        self._node.dropped = 0
        if not self.keeps_sets:
            self._node.passed = dict.fromkeys(self._node.passed, 0)
        return "shape"


@pytest.mark.parametrize(("keeps_sets", "then", "denied"), [(True, 7, 7), (False, 30, 6 + 30)])
def test_what_rules_count_anew_is_added_to_what_they_counted_before(
    watched: Watched, keeps_sets: bool, then: int, denied: int
) -> None:
    """Also what nobody had looked at by then, and also where it is more."""
    node: Any = watched.node
    node.hold(["acme"])
    node.passed = {1: 4}
    watched.series()
    node.dropped, node.passed = 8, {1: 6}
    laying: Any = Laid(node, keeps_sets=keeps_sets)
    assert Partings(watched.sampler).relaid(node, laying) == "shape"
    node.dropped, node.passed = 20, {1: then}
    found = watched.series()
    assert total(found, "cellwall_denied_packets_total") == 8 + 20
    assert total(found, DENIED) == denied


def test_a_wall_is_laid_also_where_nothing_can_be_read(watched: Watched) -> None:
    node: Any = watched.node
    node.hold(["acme"])
    node.journal.metered = None  # which is as good as any fault
    laying: Any = Laid(node, keeps_sets=True)
    assert Partings(watched.sampler).relaid(node, laying) == "shape"
    assert node.dropped == 0


def test_what_a_closed_endpoint_passed_last_is_its_tenants_and_what_nobody_claimed_is_nobodys(
    watched: Watched,
) -> None:
    node: Any = watched.node
    node.hold(["acme"])
    node.passed = {1: 4}
    watched.series()
    web = msgspec.structs.replace(endpoint("web", 2), tenant="acme", host_index=1)
    ready = msgspec.structs.replace(endpoint("next", 3), key=EndpointKey("~00000001"), tenant="", host_index=2)
    node.passed, node.idle = {1: 9}, {2: 100}
    stem = web.generation & STEM
    node.sent, node.received = {stem: 3}, {stem: 20}
    closed: list[Endpoint] = [web, ready]
    Partings(watched.sampler).part(node, closed)
    node.hold([])
    node.idle = {}
    found = watched.series()
    assert total(found, SENT) == 9
    assert total(found, DENIED) == 9 + 3 + 20
    assert {dict(labels)["tenant"] for name, labels in found if name in (SENT, DENIED)} == {"acme"}


def test_what_was_sent_in_a_ready_sandbox_is_not_of_who_claims_it(watched: Watched) -> None:
    node = watched.node
    node.hold(["other"])
    node.idle = {2: 50}
    watched.series()
    node.hold(["acme"])
    node.passed, node.idle = {2: 60}, {}
    assert total(watched.series(), SENT) == 10


def test_totals_go_on_where_links_and_rules_have_ended_with_the_daemon(tmp_path: Path) -> None:
    first = Watched(tmp_path)
    first.node.hold(["acme"])
    first.node.passed, first.node.unfinished = {1: 4}, 3
    first.series()
    second = Watched(tmp_path)
    second.node.hold(["", "acme"])
    second.node.passed = {1: 0, 2: 1}
    found = second.series()
    assert total(found, SENT) == 5
    assert total(found, DENIED) == 5


def test_no_total_is_told_that_the_next_daemon_would_not_tell(tmp_path: Path) -> None:
    """Also where something ends, or rules are laid anew, as the totals have just been put on record."""
    watched = Watched(tmp_path)
    watched.node.hold(["acme"])
    watched.series()
    watched.node.passed, watched.node.dropped, watched.node.unfinished = {1: 9}, 20, 30
    ending: Any = AsItEnds(watched)
    watched.sampler._file = ending
    told = watched.series()
    assert ending.over
    after = Watched(tmp_path)
    after.node.broken = {"record", "rules"}  # it knows what is on record alone
    found = after.series()
    for name in (SENT, DENIED, "cellwall_denied_packets_total", "cellwall_tenant_received_bytes_total"):
        assert total(told, name) == total(found, name), name
    assert total(watched.series(), SENT) == 12


class AsItEnds:
    """The file of totals; as one is written a container is detached and rules are read for the last time."""

    def __init__(self, watched: Watched) -> None:
        self._watched, self._file, self.over = watched, watched.sampler._file, False

    def write(self, totals: Any) -> None:
        self._file.write(totals)
        if not self.over:
            self.over = True
            node: Any = self._watched.node
            node.passed, node.dropped = {1: 12}, 25
            web = msgspec.structs.replace(endpoint("web", 2), tenant="acme", host_index=1)
            Partings(self._watched.sampler).part(node, [web])
            self._watched.sampler.settle(node)
