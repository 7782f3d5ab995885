"""The flood that a neighbour is measured beside is one of new flows, and bounds keep what they are called."""

import os
import time
from contextlib import ExitStack

import pytest
from bench.neighbour import FLOWS, RECOMMENDED, UPLINK, Family, Node
from bench.rivals import rival, spin


@pytest.mark.root
@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_of_full_packets_shares_an_uplink_that_is_no_wider_than_said(family: Family) -> None:
    with ExitStack() as opened:
        node = Node(RECOMMENDED, opened, family, narrow=True)
        with node.flood.running():
            node.flood.sent_all.wait(60)
            (rate,) = node.sample().values()
        assert 0 < rate <= 1.2 * UPLINK  # and not more by what waits in buffers


@pytest.mark.root
@pytest.mark.parametrize(("bounds", "least", "most"), [("none", 1025, FLOWS), ("1,024 flows", 1024, 1024)])
def test_a_flood_of_new_flows_is_as_many_as_the_bounds_let_be(bounds: str, least: int, most: int) -> None:
    with ExitStack() as opened:
        node = Node(bounds, opened)
        with node.flood.running():
            node.flood.sent_all.wait(60)
        assert least <= node.remembered() <= most
        assert node.remembered() == 0


@pytest.mark.root
@pytest.mark.parametrize("family", [4, 6])
def test_a_rival_works_on_its_processor_and_is_gone_afterwards(family: Family) -> None:
    with ExitStack() as opened:
        node = Node(RECOMMENDED, opened, family)
        for work in (spin, node.flood.send_forever, node.inner.send_forever):
            with rival(work, max(os.sched_getaffinity(0))) as seconds:
                deadline = time.monotonic() + 30
                while seconds() < 0.05:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            with pytest.raises(FileNotFoundError):
                seconds()
            if work == node.flood.send_forever:
                assert node.remembered() > 0
