"""What the engine asks of a mechanism, asked of each: the words mean the same whatever holds the wall."""

import errno
import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.compile.usage import Usage, usage_of_endpoints
from cellwall.engine.backend import Backend, Laid, Wanted
from cellwall.errors import KernelError
from cellwall.model.endpoint import Endpoint, EndpointKey, parse_binding
from cellwall.model.policy import Policy, Rule, Tiers
from cellwall.model.settings import Settings
from cellwall.model.versions import FIRST_BLOCK, first_version
from world import World, open_world, rewired

pytestmark = pytest.mark.root
MECHANISMS = {
    "nftables": Settings(backend="nftables"),
    "iptables-nft": Settings(backend="iptables", iptables="nft"),
    "iptables-legacy": Settings(backend="iptables", iptables="legacy"),
}
BINDINGS = tuple(
    parse_binding(text)
    for text in ("8080:80", "8081:81/udp", "9000-9003:9000", "8082:82@198.51.100.0/24", "192.0.2.1:8083:83")
)


def endpoint(number: int, *, ipv6: bool = True, exposed: bool = False, generation: int = 0) -> Endpoint:
    """One that no link belongs to: rules and sets know nothing of links."""
    return Endpoint(
        key=EndpointKey(f"c{number}", "eth0"),
        tenant="t",
        host_link=f"b9h{number:012x}",
        host_index=1000 + number,
        mac=0x0A58_0000_0000 + number,
        address4=ip_address(f"192.168.1.{number}"),  # type: ignore[arg-type]
        address6=ip_address(f"fd00:abcd::{0x100 + number:x}") if ipv6 else None,  # type: ignore[arg-type]
        generation=generation or 10 * number,
        netns="/run/netns/none",
        netns_device=1,
        netns_inode=number,
        owns_netns=False,
        bindings=BINDINGS if exposed else (),
        tenant_number=first_version(FIRST_BLOCK, Settings().mark),
    )


ONE, TWO, FOUR_ONLY, PUBLISHED = endpoint(1), endpoint(2), endpoint(3, ipv6=False), endpoint(4, exposed=True)
EVERYWHERE = Tiers(
    Policy(
        rules=(
            Rule("deny", ip_network("0.0.0.0/0"), "tcp", (25, 25)),
            Rule("deny", ip_network("2000::/3"), "any", (25, 26)),
        )
    ),
    Policy(mode="block", monitor=True, sources=(ip_network("198.51.100.0/25"), ip_network("2001:db8::/32"))),
)
POLICED = msgspec.structs.replace(endpoint(5, exposed=True), bindings=(parse_binding("8090:80"),), tiers=EVERYWHERE)
ALL = (ONE, TWO, FOUR_ONLY, PUBLISHED, POLICED)


@pytest.fixture(scope="module", params=list(MECHANISMS))
def node(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(settings=MECHANISMS[request.param], up=False) as world:
        yield world


@pytest.fixture
def wanted(node: World) -> Wanted:
    site = node.wall._site
    usage = usage_of_endpoints(ALL)
    return Wanted(site.settings, site.node.observe(), usage, "eth0")


@pytest.fixture
def backend(node: World, wanted: Wanted) -> Iterator[Backend]:
    settings = node.wall.settings
    assert settings.backend != "auto"
    mechanism = node.wall._site.mechanism(settings.backend)
    lay(mechanism, wanted)
    yield mechanism
    mechanism.remove(wanted)
    assert mechanism.shape() == ""


def lay(mechanism: Backend, wanted: Wanted, attached: tuple[Endpoint, ...] = (), before: Laid | None = None) -> Laid:
    laying = mechanism.plan(wanted, attached, before)
    assert laying is not None
    laying.lay()
    return Laid(laying.rules, laying.sets, mechanism.shape(), wanted.usage, laying.details)


def test_a_host_that_has_everything_refuses_nothing(backend: Backend, node: World) -> None:
    assert backend.refusal(node.wall.settings) == ""


def test_what_comes_is_there_and_what_goes_is_not(backend: Backend) -> None:
    backend.change((), ALL)
    assert backend.missing(ALL) == ()
    assert backend.drift(ALL) == ()
    assert backend.missing([endpoint(9)])
    backend.change([ONE, PUBLISHED], ())
    assert backend.drift([TWO, FOUR_ONLY, POLICED]) == ()
    assert backend.missing([ONE])
    backend.change([TWO, FOUR_ONLY, POLICED], ())
    assert backend.drift(()) == ()


def test_a_change_leaves_what_is_in_both_states(backend: Backend) -> None:
    backend.change((), [PUBLISHED])
    renewed = msgspec.structs.replace(
        PUBLISHED, bindings=BINDINGS[1:], generation=99, past_generations=(PUBLISHED.generation,)
    )
    backend.change([PUBLISHED], [renewed])
    assert backend.drift([renewed]) == ()
    backend.change([renewed], [PUBLISHED])
    assert backend.drift([PUBLISHED]) == ()


def test_a_changed_policy_is_live_as_a_whole(backend: Backend) -> None:
    backend.change((), [POLICED])
    for tiers in (Tiers(EVERYWHERE.tenant), Tiers(endpoint=Policy(mode="block")), Tiers(), EVERYWHERE):
        before, after = POLICED, msgspec.structs.replace(POLICED, tiers=tiers, generation=999)
        backend.change([before], [after])
        assert backend.drift([after]) == ()
        backend.change([after], [before])
        assert backend.drift([before]) == ()


def test_what_is_missing_already_is_said_and_what_closes_stays_closed(backend: Backend) -> None:
    backend.change((), [ONE, TWO])
    backend.change([ONE], ())
    with pytest.raises(KernelError) as caught:
        backend.change([ONE, TWO], ())
    assert caught.value.errno == errno.ENOENT
    backend.repair(())
    assert backend.drift(()) == ()


def test_repair_makes_live_what_is_desired_and_says_what_it_did(backend: Backend) -> None:
    backend.change((), [ONE, PUBLISHED])
    told = backend.drift([TWO, PUBLISHED])
    assert told
    assert sorted(backend.repair([TWO, PUBLISHED])) == sorted(told)
    assert backend.repair([TWO, PUBLISHED]) == ()
    assert backend.drift([TWO, PUBLISHED]) == ()


def test_what_is_laid_already_needs_no_laying(backend: Backend, wanted: Wanted) -> None:
    laid = lay(backend, wanted)
    assert backend.plan(wanted, (), laid) is None


def test_endpoints_change_no_shape(backend: Backend) -> None:
    before = backend.shape()
    backend.change((), ALL)
    assert backend.shape() == before


def test_laying_brings_every_endpoint_and_no_other(backend: Backend, wanted: Wanted) -> None:
    backend.change((), [ONE])
    lay(backend, wanted, (TWO, PUBLISHED))
    assert backend.drift([TWO, PUBLISHED]) == ()


def test_another_policy_keeps_endpoints_and_is_judged_anew(backend: Backend, wanted: Wanted) -> None:
    laid = lay(backend, wanted, ALL)
    tighter = msgspec.structs.replace(
        wanted, settings=msgspec.structs.replace(wanted.settings, protect=(ip_network("151.101.0.0/16"),))
    )
    laying = backend.plan(tighter, ALL, laid)
    assert laying is not None
    assert laying.judges_anew
    laying.lay()
    assert backend.shape() != laid.shape
    assert backend.drift(ALL) == ()


def test_without_a_wall_there_is_no_shape_and_nothing_to_repair(node: World, wanted: Wanted) -> None:
    assert node.wall.settings.backend != "auto"
    mechanism = node.wall._site.mechanism(node.wall.settings.backend)
    laid = lay(mechanism, wanted, ALL)
    mechanism.remove(wanted)
    mechanism.remove(wanted)
    assert mechanism.shape() == ""
    assert mechanism.repair(ALL) == ()
    with pytest.raises(KernelError) as caught:
        mechanism.change((), [ONE])
    assert caught.value.errno == errno.ENOENT
    assert mechanism.holder(laid).backend == mechanism.name


def test_a_record_that_nobody_can_read_keeps_nobody_from_closing(backend: Backend, node: World) -> None:
    backend.change((), [ONE])
    usage = usage_of_endpoints(ALL)
    backend.take(node.wall.settings, Laid("other", "other", "other", usage, "{"))
    backend.change([ONE], ())
    assert backend.drift(()) == ()
    assert str(backend.holder(Laid("", "", "", Usage(), "{"))) == backend.name


def test_the_record_names_no_mechanism_that_has_nothing_of_the_wall_any_more() -> None:
    with open_world(settings=MECHANISMS["nftables"]) as world:
        site = world.wall._site
        for name in ("iptables-nft", "nftables"):
            rewired(world.wall, settings=MECHANISMS[name]).up()
            assert json.loads(site.journal.get("mechanisms") or b"") == [name.partition("-")[0]]
        world.wall.down()
        assert site.journal.get("mechanisms") is None
