"""What the flush benchmark counts: nothing through a wall, everything and for how long without."""

import pytest
from bench.flush import Row, Stage, matrix, render

from cellwall.api import Wall
from cellwall.lab import Lab


@pytest.mark.root
def test_an_opening_is_seen_and_measured_and_a_wall_has_none() -> None:
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        stage = Stage(lab, wall)
        sent, through, seconds, back = stage.sample("nft flush ruleset", watched=False, latched=True)
        assert (through, seconds, back) == (0, 0.0, -1.0)
        assert sent > 100
        sent, through, seconds, _ = stage.sample("nft flush ruleset", watched=False, latched=False)
        assert 0 < through < sent
        assert seconds > 0
        with stage.watching():
            _, through, _, back = stage.sample("nft flush ruleset", watched=True, latched=True)
        assert through == 0
        assert back > 0


def test_a_row_says_what_came_through_and_when_it_was_over() -> None:
    closed = Row("nftables", "nft flush ruleset", True, True, 1200, 0, 0.0, 61.2, 88.0)
    opened = Row("nftables", "nft flush ruleset", False, False, 1200, 7, 12.4, -1, -1)
    assert render([closed, opened]).splitlines()[2:] == [
        "| nftables | `nft flush ruleset` | yes | 0 / 1,200 | 0 | 61 ms, at most 88 |",
        "| nftables | `nft flush ruleset` | no, and no latch | 7 / 1,200 | 12 ms: 7 of 1,200 packets | not by itself |",
    ]


def test_the_table_has_a_row_for_what_was_measured_both_ways_and_for_owned_tables() -> None:
    alone = Row("nftables", "nft flush ruleset", False, True, 1200, 0, 0.0, -1, -1)
    watched = Row("nftables", "nft flush ruleset", True, True, 1200, 0, 0.0, 61.2, 88.0)
    owned = Row("nftables-owned", "nft flush ruleset", False, False, 3400, 0, 0.0, 5.0, 6.0)
    assert matrix([alone, watched, owned]).splitlines()[2:] == [
        "| `nft flush ruleset` | nftables | the latch: nothing passes the node | 0 | 0 | 61 ms, at most 88 |",
        "| `nft flush ruleset` | nftables, owned | the owner: a flush passes its tables over"
        " | 0 of 3,400 |  | never gone |",
    ]
    assert len(matrix([alone]).splitlines()) == 2
