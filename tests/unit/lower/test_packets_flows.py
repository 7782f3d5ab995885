"""Conntrack state and policy versions: what is already under way passes only as far as it was decided."""

import msgspec
import pytest

from cellwall.lab import addresses as at
from cellwall.model.endpoint import Endpoint
from cellwall.model.versions import first_version
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Flow
from scene import (
    GATEWAY4,
    GATEWAY6,
    GATEWAY_MAC,
    NODE_BIT,
    OTHER,
    PUBLIC4,
    PUBLIC6,
    SCENE,
    WEB,
    Scene,
    directed,
    endpoint,
    flow_of,
    judged,
)


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
def test_established_passes_only_while_the_version_that_decided_it_is_live(to: str) -> None:
    live = SCENE.egress(WEB, to, state="established", mark=WEB.generation)
    assert judged(live) == ("accept", "B9-FORWARD", "")
    again = SCENE.egress(WEB, to, state="established", mark=0)
    assert (again.verdict, again.reason, again.mark) == ("accept", "egress", WEB.generation)
    former = SCENE.egress(WEB, to, state="established", mark=77)
    assert judged(former) == ("drop", "flow of a former endpoint", "FWD")


@pytest.mark.parametrize(
    "version", [WEB.generation + 1, first_version(2000, NODE_BIT)], ids=["of its block", "another"]
)
def test_a_flow_of_an_earlier_version_of_the_same_endpoint_is_judged_again(version: int) -> None:
    changed = endpoint("web", 2, generation=version, past=(WEB.generation,))
    fate = Scene(changed).egress(changed, PUBLIC4, state="established", mark=WEB.generation)
    assert (fate.verdict, fate.reason, fate.mark) == ("accept", "egress", changed.generation)


@pytest.mark.parametrize("to", ["10.0.0.5", "169.254.169.254", "fc00:9::9"])
def test_established_is_no_way_past_the_floor(to: str) -> None:
    """A flow without a live version, such as one that was open before `up`."""
    assert judged(SCENE.egress(WEB, to, state="established")) == ("reject", "the floor", "FWD")


@pytest.mark.parametrize("to", ["192.168.0.3", "fd00:abcd::3"])
def test_not_even_a_live_flow_goes_from_container_to_container(to: str) -> None:
    fate = SCENE.egress(WEB, to, state="established", mark=WEB.generation)
    assert judged(fate) == ("reject", "container to container", "FWD")


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
def test_what_conntrack_calls_invalid_ends_before_routing(to: str) -> None:
    going = flow_of("fd00:abcd::2" if ":" in to else "192.168.0.2", to)
    packet = flow_packet(going, source_mac=WEB.mac, destination_mac=GATEWAY_MAC)
    assert judged(SCENE.from_sandbox(WEB, packet, None)) == ("drop", "no valid flow", "PRE")


@pytest.mark.parametrize(
    ("holder", "mark", "protocol", "expected"),
    [
        (WEB, WEB.generation, "icmp", ("accept", "related", "")),
        (WEB, OTHER.generation, "icmp", ("drop", "flow of a former endpoint", "FWD")),
        (WEB, 0, "icmp", ("drop", "error about no live flow", "FWD")),
        (WEB, WEB.generation, "tcp", ("drop", "helper expectation", "FWD")),
    ],
)
def test_related_is_icmp_about_a_live_flow_of_ones_own(
    holder: Endpoint, mark: int, protocol: str, expected: tuple[str, str, str]
) -> None:
    fate = SCENE.egress(holder, PUBLIC4, protocol, state="related", mark=mark)
    assert judged(fate) == expected


def test_an_error_about_a_neighbours_flow_does_not_reach_its_peer() -> None:
    """Conntrack relates an error to the flow that it quotes, and shows that one's mark and tuples."""
    quoted = flow_of("192.168.0.3", PUBLIC4)
    too_big = msgspec.structs.replace(flow_of("192.168.0.2", PUBLIC4, "icmp"), destination_port=3 << 8 | 4)
    error = flow_packet(too_big, source_mac=WEB.mac, destination_mac=GATEWAY_MAC)
    fate = SCENE.from_sandbox(WEB, error, directed(quoted, "related", mark=OTHER.generation))
    assert judged(fate) == ("drop", "error about another's flow", "FWD")
    own = directed(flow_of("192.168.0.2", PUBLIC4), "related", mark=WEB.generation)
    assert SCENE.from_sandbox(WEB, error, own).verdict == "accept"


@pytest.mark.parametrize(("to", "version"), [(PUBLIC4, 4), (PUBLIC6, 6)])
def test_more_connections_than_allowed_are_refused_and_open_ones_go_on(to: str, version: int) -> None:
    meter, clients = f"flows{version}", f"clients{version}"
    assert judged(SCENE.egress(WEB, to, over=[meter])) == ("reject", "too many connections", "FWD")
    assert SCENE.egress(WEB, to, state="established", mark=WEB.generation, over=[meter]).verdict == "accept"
    node = at.NODE6 if ":" in to else at.NODE4
    client = at.LAN6 if ":" in to else at.LAN4
    assert judged(SCENE.ingress(client, node, over=[clients])) == ("drop", "too many connections", "FWD")
    # Neither takes the other's.
    assert SCENE.ingress(client, node, over=[meter]).verdict == "accept"
    assert SCENE.egress(WEB, to, over=[clients]).verdict == "accept"


@pytest.mark.parametrize(("to", "meter"), [(GATEWAY4, "pings4"), (GATEWAY6, "pings6")])
def test_echo_floods_to_the_gateway_are_bounded(to: str, meter: str) -> None:
    assert judged(SCENE.egress(WEB, to, "icmp", over=[meter])) == ("drop", "echo flood", "PRE")


def test_answers_to_the_node_pass_and_forged_answers_do_not() -> None:
    asked = flow_of(GATEWAY4, "192.168.0.2", "tcp", 80)
    answer = flow_packet(asked.reversed(), source_mac=WEB.mac, destination_mac=GATEWAY_MAC)
    known = Flow(asked, asked.reversed(), "established", "reply", mark=WEB.generation)
    assert SCENE.from_sandbox(WEB, answer, known).verdict == "accept"
    fresh = directed(asked.reversed())
    assert judged(SCENE.from_sandbox(WEB, answer, fresh)) == ("reject", "the node", "PRE")


def test_the_nodes_own_flow_to_a_former_holder_of_an_address_ends() -> None:
    going = flow_of(GATEWAY4, "192.168.0.2", "tcp", 80)
    fresh = SCENE.from_node(flow_packet(going), directed(going))
    assert (fresh.verdict, fresh.mark) == ("accept", WEB.generation)
    former = SCENE.from_node(flow_packet(going), directed(going, "established", mark=77))
    assert judged(former) == ("drop", "flow of a former endpoint", "OUT")
