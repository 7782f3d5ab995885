"""The benchmarks' arithmetic, and that each of them measures what it says."""

import socket

import pytest
from bench.bare import NoFirewall
from bench.bulk import measure_bulk
from bench.contestants import InIptables, InProcess, Netavark
from bench.crowd import copied_rules
from bench.dataplane import ratios_of
from bench.figures import quantile, summarise, table
from bench.firstpacket import Echo
from bench.goals import DETACH, FIRST_PACKET, judge
from bench.load import Load
from bench.served import ByClient, PluginByDaemon

from cellwall.api import Wall
from cellwall.client import Client
from cellwall.errors import LabError, Unavailable
from cellwall.lab import Lab


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0)])
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_a_ratio_is_taken_within_its_round() -> None:
    """A machine that is twice as slow in one round is so for both sides of it."""
    samples = {("base", "datagrams", "IPv4"): [100.0, 50.0, 100.0], ("other", "datagrams", "IPv4"): [80.0, 40.0, 80.0]}
    row = next(row for row in ratios_of(samples, 10, "base") if row.contestant == "other")
    assert (row.ratio, row.ratio_p5, row.ratio_p95, row.rate) == (0.8, 0.8, 0.8, 80)


def test_a_goal_is_missed_by_anything_above_its_limit() -> None:
    rows = [
        summarise(InProcess.name, FIRST_PACKET, 0, [0.003]),
        summarise(Netavark.name, FIRST_PACKET, 0, [0.030]),
        summarise(InProcess.name, DETACH, 0, [0.001]),
        summarise(Netavark.name, DETACH, 0, [0.040]),
    ]
    reached = {goal.goal: goal.reached for goal in judge(rows, 1000)}
    assert reached["in-process attach ≤ 1/10 of netavark's, 0 attached"]
    assert not reached["in-process detach ≤ 1/50 of netavark's, 0 attached"]
    assert not any("1000 attached" in goal for goal in reached)  # nobody measured that


def test_a_full_node_may_double_what_an_attach_costs_in_iptables_and_no_more() -> None:
    def reached(full: float) -> list[bool]:
        rows = [
            summarise(InIptables.name, FIRST_PACKET, 0, [0.003]),
            summarise(InIptables.name, FIRST_PACKET, 1000, [full]),
        ]
        return [goal.reached for goal in judge(rows, 1000) if InIptables.name in goal.goal]

    assert (reached(0.006), reached(0.0061)) == ([True], [False])


def test_a_crowd_has_the_rules_of_one_container_each_under_its_own_names() -> None:
    saved = [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":CNI-0123456789abcdef01234567 - [0:0]",
        '-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \\"bench\\" id: \\"first\\"" '
        "-j CNI-0123456789abcdef01234567",
        "-A CNI-0123456789abcdef01234567 -d 10.88.0.0/16 -j ACCEPT",
        "COMMIT",
    ]
    lines = list(copied_rules(saved, "first", "10.88.0.2", ["CNI-0123456789abcdef01234567"], 3))
    chains = {line.split()[0] for line in lines if line.startswith(":")}
    assert (lines[0], lines[-1], len(lines), len(chains)) == ("*nat", "COMMIT", 2 + 3 * 3, 3)
    assert "0123456789abcdef01234567" not in "\n".join(lines)
    assert sum("10.88.16.2/32" in line for line in lines) == 1


def test_a_table_has_its_numbers_to_the_right() -> None:
    assert table(("a", "n"), [("long", "1"), ("x", "100")]) == "a       n\nlong    1\nx     100"


@pytest.mark.root
def test_many_at_once_are_one_transaction() -> None:
    assert {bulk.what: bulk.transactions for bulk in measure_bulk(20)} == {
        "attachments": 1,
        "their detachments": 1,
        "the attach after them": 1,
        "attachments with a published port each": 1,
        "exposures of one container": 1,
    }


@pytest.mark.root
@pytest.mark.parametrize("kind", [ByClient, PluginByDaemon])
def test_what_goes_through_the_daemon_is_done_by_it(kind: type[ByClient | PluginByDaemon]) -> None:
    with Lab() as lab:
        contestant = kind(lab)
        contestant.prepare()
        contestant.populate(3)
        sandbox = lab.sandbox("measured")
        with lab.node.enter():
            contestant.attach("measured", sandbox)
        with Echo(sandbox, socket.AF_INET) as echo:
            echo.await_reply(10)
        with Client.open(root=lab.root) as client:
            assert len(client.endpoints()) == 4
        with lab.node.enter(), pytest.raises(Unavailable, match="daemon"):
            Wall.open(root=lab.root)
        with lab.node.enter():
            contestant.detach("measured", sandbox)
        contestant.close()


@pytest.mark.root
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_load_counts_what_arrives(family: socket.AddressFamily) -> None:
    with Lab() as lab:
        plain = NoFirewall(lab)
        plain.prepare()
        sandbox = lab.sandbox("sender")
        with lab.node.enter():
            plain.attach("sender", sandbox)
        with Echo(sandbox, family) as echo:
            echo.await_reply(10)
        load = Load(lab, sandbox, family)
        assert load.connections() > 0
        assert load.datagrams() > 0
        rule = ["nft", "add", "rule", "inet", "plain", "stop", "drop"]
        lab.node.run(["nft", "add", "chain", "inet", "plain", "stop", "{ type filter hook forward priority 0; }"])
        lab.node.run(rule)
        with pytest.raises(LabError, match="0 of 8000 datagrams arrived"):
            load.datagrams()
        load.close()
