"""The commands on a node whose daemon writes: they ask it, and it is as if they had done it themselves."""

from collections.abc import Iterator

import pytest
from nodecommand import Command
from test_commands import (  # noqa: F401  # the same stories, told through the daemon
    test_attach_expose_and_detach_pass_packets_as_they_say,
    test_status_finds_drift_and_reconcile_repairs_it,
    test_tables_are_for_people,
    test_up_is_idempotent_and_down_refuses_while_attached,
)
from test_run import (  # noqa: F401
    start,
    test_command_serves_behind_an_exposed_port,
    test_exit_status_and_output_are_the_commands,
    test_kill_is_cleared_up_by_reconcile,
    test_name_in_use_is_a_conflict,
)

from cellwall.cli import exits
from cellwall.config import drop_mode_record, record_daemon, recorded_mode
from cellwall.lab import Lab
from client.serving import Daemon, served
from running import wait_until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Iterator[Daemon]:
    with served(lab) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def by_daemon(daemon: Daemon, cellwall: Command) -> None:
    """Every test of this module."""
    assert recorded_mode(daemon.paths) == "daemon"


def test_detach_leaves_neither_end_of_the_link_once_nothing_else_waits(cellwall: Command, lab: Lab) -> None:
    box = lab.sandbox("stays")
    assert cellwall("attach", "web", "--netns", str(box.netns)).status == 0
    assert cellwall("claim", "job", "--tenant", "acme").status == cellwall("detach", "job").status == 0
    assert "eth0" in box.run(["ip", "-br", "link"]).text
    assert cellwall("detach", "web").status == 0
    wait_until(lambda: "eth0" not in box.run(["ip", "-br", "link"]).text)
    assert "b9h" not in lab.node.run(["ip", "-br", "link"]).text


def test_run_has_the_resolvers_of_the_daemons_node(cellwall: Command) -> None:
    seen = cellwall("run", "--", "cat", "/etc/resolv.conf")
    told = cellwall("up", "--json").json["dns"]
    assert (seen.status, seen.out.split()[1::2]) == (0, told)


def test_a_flag_that_the_daemon_would_not_see_is_refused(cellwall: Command) -> None:
    for command in (["up"], ["attach", "web"], ["reconcile"], ["list"]):
        refused = cellwall(*command, "--json", "--set", "network.mtu=1400")
        assert (refused.status, refused.json["error"]["field"]) == (2, "network.mtu")
        assert "does not reach the daemon" in refused.err
    assert cellwall("list", "--set", "node.mode=daemon").status == 0


def test_what_the_daemon_does_itself_is_not_done_beside_it(cellwall: Command) -> None:
    for command in ("watch", "uninstall"):
        refused = cellwall(command)
        assert (refused.status, refused.err.count("\n")) == (4, 1)
        assert "daemon" in refused.err
    assert cellwall("up").status == 0


def test_the_configuration_and_the_host_are_looked_at_beside_it(cellwall: Command) -> None:
    cellwall("up")
    assert cellwall("config", "show", "--json").json["mechanism"] == "nftables"
    assert cellwall("config", "check").status == 0
    examined = cellwall("doctor", "--json")
    assert examined.status in (exits.DONE, exits.FINDING)
    assert "daemon" not in {finding["subject"] for finding in examined.json["findings"]}, "it answers"


def test_ports_are_reserved_listed_and_released(cellwall: Command) -> None:
    made = cellwall("reserve", "web", "--count", "2", "--tenant", "acme", "--json").json["reservation"]
    assert (made["container"], made["tenant"], len(made["ports"]), made["seconds"]) == ("web", "acme", 2, 600)
    assert cellwall("reserve", "web", "--count", "2", "--tenant", "acme").out.split() == [*map(str, made["ports"])]
    (listed,) = cellwall("reserved", "--json").json["reservations"]
    assert listed["ports"] == sorted(made["ports"])
    assert "acme" in cellwall("reserved").out
    assert cellwall("reserve", "web", "--count", "65", "--json").json["error"]["field"] == "count"
    assert cellwall("release", "web", "--json").json == {"released": 2}
    assert cellwall("release", "web").out == "released 0\n"


def test_a_list_loads_no_engine(cellwall: Command) -> None:
    listed = cellwall("list", PYTHONPROFILEIMPORTTIME="1")
    assert listed.status == 0
    assert "cellwall.client.blocking" in listed.err
    heavy = ("cellwall.adapters", "cellwall.engine.attachments", "sqlite3", "aiohttp", "http.client")
    assert not [name for name in heavy if f" {name}\n" in listed.err]


def test_a_daemon_that_is_missing_is_waited_for_and_never_replaced(cellwall: Command, daemon: Daemon) -> None:
    daemon.end()
    try:
        missing = cellwall("attach", "web", "--json")
        assert (missing.status, missing.json["error"]["kind"]) == (7, "unavailable")
        assert "no daemon answered within 5 s" in missing.err
        examined = cellwall("doctor", "--json")
        (told,) = [one for one in examined.json["findings"] if one["subject"] == "daemon"]
        assert (examined.status, told["severity"]) == (exits.FINDING, "warning")
        assert "No such file" in told["observed"]
    finally:
        daemon.begin()
    assert cellwall("list", "--json").json == {"endpoints": []}


def test_a_node_that_a_daemon_left_without_an_end_is_taken_back_by_up_alone(cellwall: Command, daemon: Daemon) -> None:
    """The configuration says that everybody writes; the record says a daemon, and so does whoever asks."""
    daemon.end()
    try:
        record_daemon(daemon.paths)
        assert cellwall("up").status == 0
        assert recorded_mode(daemon.paths) is None
        assert cellwall("attach", "web").status == 0
        record_daemon(daemon.paths)
        assert cellwall("uninstall").status == 4, "attached, and no daemon in the way"
        assert recorded_mode(daemon.paths) is None
        assert cellwall("down", "--force").status == 0
    finally:
        drop_mode_record(daemon.paths)
        daemon.begin()


def test_up_leaves_a_daemon_that_lives_its_node(cellwall: Command, daemon: Daemon) -> None:
    assert cellwall("up").status == 0
    assert recorded_mode(daemon.paths) == "daemon"
