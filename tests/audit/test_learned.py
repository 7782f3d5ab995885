"""A tenant is watched while it does what it does; what is proposed from that, in force, lets exactly that through."""

from collections.abc import Iterator

import pytest

from audit.recorded import Recorded
from cellwall.api import check_policy
from cellwall.audit.events import Attempt
from cellwall.audit.learning import acceptable, proposal_text, propose
from cellwall.config.policy_text import parse_text
from cellwall.daemon.audit.thread import audited
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.policy_document import parse_policy
from cellwall.model.settings import Settings
from world import World, assert_connection, assert_no_connection, open_world

pytestmark = pytest.mark.root
USED = [(PUBLIC4[0], 80, False), (PUBLIC6[0], 81, False), (PUBLIC4[1], 80, True)]
"""Address, port, whether by UDP: three services of the Internet."""
UNUSED = [
    *((PUBLIC4[0], 81, False), (PUBLIC6[0], 80, False), (PUBLIC4[1], 80, False)),
    *((PUBLIC4[1], 81, True), (PUBLIC4[0], 80, True), (PUBLIC6[1], 81, False)),
]


@pytest.fixture(
    params=[
        Settings(),
        Settings(backend="iptables", iptables="nft"),
        Settings(backend="iptables", iptables="legacy"),
    ],
    ids=["nftables", "iptables-nft", "iptables-legacy"],
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(settings=request.param) as world:
        world.lab.internet.serve(tcp=[80, 81], udp=[80, 81])
        yield world


def test_what_is_learned_lets_what_was_used_through_and_nothing_else(world: World) -> None:
    kept = Recorded()
    box = world.attach("web", tenant="acme")
    world.wall.set_policy({"mode": "block", "monitor": True}, tenant="acme")
    with audited(world.wall, kept, world.wall.endpoints):
        kept.wait_for_beginning()
        for address, port, udp in USED:
            for _ in range(2):
                assert_connection(box.host, address, port, udp=udp)
        for used in USED:
            kept.found(lambda event, used=used: (event.destination, event.destination_port) == used[:2])  # type: ignore[misc]
    watched = [event for event in kept.events if isinstance(event, Attempt) and event.judgement == "watch"]
    assert {event.container for event in watched} == {box.name}
    known = world.wall.policy(tenant="acme")
    assert known is not None
    proposal = acceptable(propose(kept.events, known.policy), lambda policy: check_policy(policy, world.wall.settings))
    learned = parse_policy(parse_text(proposal_text(proposal, "tenant acme"))).policy
    assert {(str(rule.prefix[0]), rule.ports, rule.protocol == "udp") for rule in learned.rules} == {
        (address, (port, port), udp) for address, port, udp in USED
    }
    world.wall.set_policy(learned, tenant="acme")
    for address, port, udp in USED:
        assert_connection(box.host, address, port, udp=udp)
    for address, port, udp in UNUSED:
        assert_no_connection(box.host, address, port, udp=udp)
