"""What the rules let through by our bridge carries the node's mark, which is what the latch outside them asks for."""

import msgspec
import pytest

from cellwall.lab import addresses as at
from cellwall.model.settings import Settings
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Context, Flow
from cellwall.ruleset.types import Ruleset
from scene import GATEWAY_MAC, PUBLIC4, PUBLIC6, WEB, Fate, Scene, flow_of

MARK = Settings().mark
SCENE = Scene(WEB)
INSIDE4, INSIDE6 = str(WEB.address4), str(WEB.address6)


def attested(fate: Fate) -> bool:
    return fate.verdict == "accept" and fate.evaluation.context.mark & MARK == MARK


@pytest.mark.parametrize(("client", "node"), [(at.LAN4, at.NODE4), (at.LAN6, at.NODE6)])
def test_what_comes_by_a_port_binding_carries_it_into_the_sandbox(client: str, node: str) -> None:
    assert attested(SCENE.ingress(client, node, "tcp", 8080))


@pytest.mark.parametrize(("server", "inside"), [(PUBLIC4, INSIDE4), (PUBLIC6, INSIDE6)])
def test_an_answer_to_a_sandbox_carries_it(server: str, inside: str) -> None:
    going = flow_of(inside, server, "tcp", 443)
    coming = going.reversed()
    back = Flow(going, coming, "established", "reply", mark=WEB.generation)
    # Translation of the source is undone before routing: the packet is addressed to the sandbox at the forward hook.
    there = Context("inet", "forward", iifname="eth0", oifname="b9_br0", flow=back, fib_daddr_type="unicast")
    assert attested(SCENE.walk(flow_packet(coming), [there]))


@pytest.mark.parametrize("inside", [INSIDE4, INSIDE6])
def test_what_the_node_sends_to_a_sandbox_carries_it(inside: str) -> None:
    node = str(SCENE.settings.network.gateway4 if ":" not in inside else SCENE.settings.network.gateway6)
    going = flow_of(node, inside, "tcp", 80)
    assert attested(SCENE.from_node(flow_packet(going), Flow(going, going.reversed())))


@pytest.mark.parametrize("server", [PUBLIC4, PUBLIC6])
def test_what_a_sandbox_sends_carries_it_from_the_pins_on(server: str) -> None:
    going = flow_of(INSIDE4 if ":" not in server else INSIDE6, server, "udp", 53)
    frame = flow_packet(going, source_mac=WEB.mac, destination_mac=GATEWAY_MAC)
    assert attested(SCENE.frame(WEB, frame))


def test_nothing_carries_it_where_the_rules_are_gone() -> None:
    gone = SCENE.under(Ruleset(tuple(msgspec.structs.replace(table, chains=()) for table in SCENE.ruleset.tables)))
    assert not attested(gone.ingress(at.LAN4, INSIDE4, "tcp", 80))
    assert not attested(gone.egress(WEB, PUBLIC4))
