"""The plugin on a node whose daemon writes: a runtime finds no difference, but in how long it takes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cni_plugin import Plugin
from test_cni_at_once import at_once
from test_cni_chain import test_a_result_of_an_earlier_plugin_is_passed_on  # noqa: F401  # the same, through the daemon
from test_cni_check import (  # noqa: F401
    test_check_and_both_statuses_find_what_changed_on_the_node,
    test_check_compares_the_result_that_the_runtime_kept,
    test_check_finds_nothing_on_an_untouched_endpoint,
    test_check_finds_what_changed_inside,
    test_check_of_an_unknown_container_has_its_own_code,
    test_gc_removes_what_this_network_made_and_the_runtime_forgot,
    test_gc_without_a_list_removes_nothing,
    test_status_tells_a_damaged_wall_and_the_next_reconcile_silences_it,
    test_what_a_tenant_does_to_its_own_interface_is_no_fault_of_the_node,
)
from test_cni_half_add import (  # noqa: F401
    start,
    test_an_add_that_reached_nobody_is_removed_by_del_and_by_gc,
    test_an_add_that_reached_nobody_is_taken_up_by_the_next,
    test_an_add_that_reached_nobody_yields_to_a_new_sandbox_of_the_same_id,
)
from test_cni_verbs import (  # noqa: F401
    internet,
    test_a_conflist_that_was_changed_for_the_worse_keeps_nobody_from_del,
    test_a_second_add_is_an_error_and_leaves_the_first_alone,
    test_add_gives_a_working_endpoint_and_its_description,
    test_arguments_name_address_mac_and_tenant,
    test_capabilities_and_arguments_are_obeyed,
    test_del_closes_the_endpoint_and_can_be_repeated,
    test_del_works_without_namespace_without_state_and_with_a_conflist_that_add_refuses,
    test_interfaces_of_one_container_are_attachments_of_their_own,
    test_version_needs_no_input_and_echoes_what_was_asked,
)

from cellwall.client import Client
from cellwall.cni.install import install
from cellwall.config import record_daemon
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import PUBLIC4
from client.serving import Daemon, served

pytestmark = pytest.mark.root
EITHER = pytest.mark.parametrize("plugin", ["thin", "whole"], indirect=True)


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Iterator[Daemon]:
    with served(lab) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def plugin(request: pytest.FixtureRequest, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    """`thin`: the launcher knows the daemon's place; `whole`: the conflist alone does."""
    directory: Path = tmp_path_factory.mktemp("cni")
    root = str(daemon.lab.root) if getattr(request, "param", "thin") == "thin" else ""
    install(str(directory / "bin"), str(directory / "net.d"), root=root)
    return Plugin(daemon.lab, directory / "bin" / "cellwall-cni")


@pytest.fixture
def wall(daemon: Daemon) -> Iterator[Client]:
    """The node's own view; everything is detached afterwards."""
    with Client.open(root=daemon.lab.root) as client:
        client.up()
        yield client
        client.detach_many([endpoint.key for endpoint in client.endpoints()])


@EITHER
def test_many_containers_start_at_once(plugin: Plugin, wall: Client, lab: Lab) -> None:
    boxes = lab.sandboxes([f"p{number}-{plugin.executable.parts[-3]}" for number in range(12)])
    confs = [plugin.conf(runtimeConfig={"portMappings": [{"hostPort": 8700 + n, "containerPort": 80}]})
             for n in range(12)]  # fmt: skip
    results = at_once(plugin, "ADD", boxes, confs)
    for row in (0, 1):
        assert len({result["ips"][row]["address"] for result in results}) == 12
    assert connect(boxes[11], PUBLIC4[0], 80)
    at_once(plugin, "DEL", boxes, confs)
    assert not [box for box in boxes if "eth0" in box.run(["ip", "-br", "link"]).text], "a runtime looks"
    assert wall.endpoints() == ()
    assert wall.status().drift == ()


@EITHER
def test_a_restart_of_the_daemon_is_waited_for(
    plugin: Plugin, wall: Client, daemon: Daemon, sandbox: Callable[[], Host]
) -> None:
    box = sandbox()
    daemon.end()
    record_daemon(daemon.paths)
    with start(plugin, box, subprocess.PIPE) as call:
        daemon.begin()
        assert call.stdout is not None
        said = call.stdout.read()
    assert call.returncode == 0, said
    assert msgspec.json.decode(said)["ips"]
    assert connect(box, PUBLIC4[0], 80)


@EITHER
def test_a_daemon_that_is_missing_is_a_reason_to_try_again_later(plugin: Plugin, daemon: Daemon, lab: Lab) -> None:
    daemon.end()
    try:
        for verb in ("ADD", "DEL"):
            reply = plugin.call(verb, "web", "/run/netns/none")
            assert (reply.status, reply.document["code"]) == (1, 11)
            assert "no daemon answered within 5 s" in reply.message
        assert plugin.call("STATUS").document["code"] == 50
        assert plugin.call("VERSION").status == 0, "which needs nobody"
        refused = plugin.call("ADD", "no such id", "/run/netns/none")
        assert refused.document["code"] == 4, "what the texts alone can tell comes first"
    finally:
        daemon.begin()


@EITHER
def test_more_words_than_a_daemon_reads_are_an_error_of_the_environment(
    plugin: Plugin, sandbox: Callable[[], Host], wall: Client
) -> None:
    box, crowd = sandbox(), "IgnoreUnknown=1;FOO=" + "x" * 9000
    refused = plugin.call("ADD", "web", box, args=crowd)
    assert (refused.document["code"], refused.document["msg"][:8]) == (4, "CNI_ARGS")
    far = plugin.call("ADD", "web", "/run/" + "é" * 2000)
    assert (far.document["code"], far.document["msg"][:9]) == (4, "CNI_NETNS")
    plugin.add("web", box)
    plugin.delete("web", args=crowd)
    assert wall.endpoints() == ()


@EITHER
def test_a_call_for_another_node_is_not_carried_out_on_this_one(
    plugin: Plugin, wall: Client, lab: Lab, tmp_path: Path
) -> None:
    """By the process itself, as for a node without a daemon: a conflist may name any."""
    with Lab() as other:
        box = other.sandbox("web")
        away = Plugin(other, plugin.executable)
        away.add("web", box)
        assert wall.endpoints() == ()
        away.delete("web")
    reply = plugin.call("ADD", "web", "/run/netns/none", conf=plugin.conf(root=str(tmp_path)))
    assert reply.status == 1 and wall.endpoints() == ()


@EITHER
def test_the_subnets_of_a_conflist_come_into_force_through_the_daemon(
    plugin: Plugin, wall: Client, sandbox: Callable[[], Host], lab: Lab
) -> None:
    conf = plugin.conf(subnets=["10.77.0.0/16", "fd77::/64"], gateways=["10.77.0.1", "fd77::1"])
    result = plugin.add("web", sandbox(), conf=conf)
    assert result["ips"][0]["address"].startswith("10.77.") and result["ips"][0]["gateway"] == "10.77.0.1"
    assert str(wall.endpoint("web").address4).startswith("10.77.")
    reply = plugin.call("ADD", "other", sandbox())
    assert reply.status == 0, "a conflist that says nothing goes by what is in force"
    clash = plugin.call("ADD", "third", sandbox(), conf=plugin.conf(subnets=["10.78.0.0/16"]))
    assert clash.status == 1 and clash.document["code"] in (7, 102)
    plugin.delete("web")
    plugin.delete("other")
    wall.down()
    (lab.root / "run/cellwall/conflist.json").unlink()
