"""kill -9, or a failure, at every step of a change of policies: it happened as a whole or not at all.

Between the crash and its repair nothing passes that both policies deny; after it packets, the record of this boot and
what is kept for the next say the same.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest

from cellwall.api import Wall
from cellwall.errors import CellwallError
from cellwall.lab.addresses import PUBLIC4
from cellwall.model.endpoint import EndpointKey
from cellwall.model.policy import Policy, Rule
from engine.steps import Fault, assert_converged, every_step, reopened, stepped
from world import Sandbox, Stream, World, about_nftables, rewired

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
CLOSED, CLOSING, STAYING = PUBLIC4[0], PUBLIC4[1], PUBLIC4[2]


def denying(*addresses: str, form: int = 0) -> Policy:
    """`form`: with a list that no other policy has the form of, so that the rules change."""
    rules = tuple(Rule("deny", ip_network(address), "udp", (80, 80)) for address in addresses)
    extra = (Rule("deny", ip_network((0x2C0F << 112, form)), "udp", (80, 80)),) if form else ()
    return Policy("open", rules + extra)


BEFORE = denying(CLOSED)


@contextmanager
def flows(sandboxes: tuple[Sandbox, ...], address: str) -> Iterator[list[Stream]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Stream(one.host, address, 80, udp=True)) for one in sandboxes]


def asked(world: World, streams: list[Stream], timeout: float = 0.1) -> set[bool]:
    return {stream.ask(world.token(), timeout) for stream in streams}


@pytest.fixture(scope="module")
def pair(node: World) -> tuple[Sandbox, ...]:
    return node.attach("one", tenant="acme"), node.attach("two", tenant="acme")


def agreed(world: World, wall: Wall) -> Policy:
    """What is on record, once the record, the kernel and what is kept say the same."""
    assert_converged(wall)
    known = wall.policy(tenant="acme")
    assert known is not None
    kept, latest = wall._site.kept().read()
    assert kept["acme"] == known
    assert latest >= known.generation
    assert {one.tiers.tenant for one in wall.endpoints()} == {known.policy}
    return known.policy


@pytest.mark.parametrize("new_form", [False, True], ids=["same rules", "new rules"])
def test_a_policy_that_is_set_when_the_process_is_killed_is_in_force_or_not(
    node: World, pair: tuple[Sandbox, ...], new_form: bool
) -> None:
    if new_form:
        about_nftables("a list whose form changes the rules")
    number = 20
    outcomes = []

    def tighten(wall: Wall) -> None:
        wall.set_policy(denying(CLOSED, CLOSING, form=number if new_form else 0), tenant="acme")

    node.wall.set_policy(BEFORE, tenant="acme")
    with flows(pair, STAYING) as kept:
        assert asked(node, kept, 1.0) == {True}
        with flows(pair, CLOSED) as closed, flows(pair, CLOSING) as cut:
            assert asked(node, cut, 1.0) == {True}
            for _ in every_step(node, tighten):
                assert asked(node, closed) == {False}
                assert asked(node, kept, 1.0) == {True}
                with reopened(node) as wall:
                    wall.enable_bridge_netfilter()  # an operation like any other ends what was begun
                    tightened = agreed(node, wall) != BEFORE
                    outcomes.append(tightened)
                    assert asked(node, cut) == {not tightened}
                    assert asked(node, kept, 1.0) == {True}
                node.wall.set_policy(BEFORE, tenant="acme")
                assert asked(node, cut, 1.0) == {True}
                number = 20 + (number - 19) % 100  # by then the first are forgotten
    assert outcomes == sorted(outcomes)  # from one step on it is in force
    assert {True, False} == set(outcomes)


@pytest.mark.parametrize("subject", ["tenant", "endpoint"])
def test_a_policy_that_cannot_be_set_leaves_the_one_before_in_force(
    node: World, pair: tuple[Sandbox, ...], subject: str
) -> None:
    key = pair[0].endpoint.key
    of: dict[str, str] = {"tenant": "acme"} if subject == "tenant" else {"container": key.container_id}
    under = pair if subject == "tenant" else pair[:1]
    node.wall.remove_policy(tenant="acme")
    node.wall.set_policy(BEFORE, **of)
    for step in range(1, 200):
        fault = Fault(step)
        with flows(under, CLOSED) as closed, flows(under, CLOSING) as going:
            assert asked(node, going, 1.0) == {True}
            refused = fails(node.wall, fault, lambda wall: wall.set_policy(denying(CLOSED, CLOSING), **of))
            assert asked(node, closed) == {False}
            assert asked(node, going, 1.0 if refused else 0.1) == {refused}
        with reopened(node) as wall:
            wall.enable_bridge_netfilter()  # what could not be put on record in the end is looked at once more
            assert_converged(wall)
            known = wall.policy(**of)
            assert known is not None
            assert (known.policy == BEFORE) is refused
            if subject == "tenant":
                agreed(node, wall)
        if not fault.happened:
            assert not refused
            return
        node.wall.set_policy(BEFORE, **of)
    raise AssertionError("the operation has no end")


def fails(wall: Wall, fault: Fault, operation: Callable[[Wall], object]) -> bool:
    """Whether the operation is refused with that fault in its way; letting go of the lock has none."""
    try:
        operation(rewired(stepped(wall, fault), lock=wall._site.lock))
    except CellwallError:
        assert fault.happened
        return True
    return False


def test_an_attach_that_is_killed_never_leaves_an_endpoint_with_less_than_its_policy(node: World) -> None:
    host = node.host("three")

    def attach(wall: Wall) -> None:
        wall.attach("three", netns=host.netns, tenant="other", policy=denying(CLOSING))

    node.wall.set_policy(denying(CLOSED), tenant="other")
    for _ in every_step(node, attach):
        with reopened(node) as wall:
            wall.enable_bridge_netfilter()
            found = [one for one in wall.endpoints() if one.key == EndpointKey("three")]
            for endpoint in found:
                with (
                    flows((Sandbox(host, endpoint),), CLOSED) as one,
                    flows((Sandbox(host, endpoint),), CLOSING) as two,
                ):
                    assert asked(node, [*one, *two]) == {False}
            assert_converged(wall)
            wall.detach("three")
