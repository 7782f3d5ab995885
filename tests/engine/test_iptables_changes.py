"""What ipset and iptables have no transaction for: in which order it is done, and what a failure half way leaves."""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from cellwall.adapters.conntrack.timeouts import timeout_names
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.engine.iptables.backend import IptablesBackend
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.host import Host
from cellwall.engine.iptables.published import published
from cellwall.errors import KernelError
from cellwall.lower.xt.endpoints import OwnedEntry
from cellwall.lower.xt.tables import Family
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings
from world import World, Wrapped, open_world

from .test_backends import ONE, PUBLISHED

pytestmark = pytest.mark.root
FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        world.attach(expose=["8080:80", "9000-9003:9000", "8082:82@198.51.100.0/24"])  # rules for every form
        world.wall.detach_many([one.key for one in world.wall.endpoints()])
        yield world


@pytest.fixture
def host(node: World) -> Iterator[Host]:
    host = node.wall._site.iptables()
    yield host
    IptablesBackend(host).repair(())
    assert IptablesBackend(host).drift(()) == ()


def changed(host: Host, **replaced: Callable[..., Any]) -> IptablesBackend:
    """The backend, where `restore` of the tables and `apply` of the sets may be others."""
    tables = {name: value for name, value in replaced.items() if name == "restore"}
    sets = {name: value for name, value in replaced.items() if name == "apply"}
    other = Host(Wrapped(host.tables, **tables), Wrapped(host.sets, **sets), host.glance)
    other._form, other.pins = host.in_force, host.pins
    return IptablesBackend(other)


@pytest.mark.parametrize("before", [(), (ONE,), (msgspec.structs.replace(PUBLISHED, bindings=()),)])
def test_what_a_refused_change_had_added_is_taken_back(host: Host, before: tuple[Endpoint, ...]) -> None:
    """Of the rules those of IPv4 were in already."""

    def restore(variant: Variant, family: Family, text: str) -> None:
        if family == "ipv6":
            raise KernelError(errno.ENOMEM, "load rules")
        host.tables.restore(variant, family, text)

    IptablesBackend(host).change((), before)
    with pytest.raises(KernelError, match="load rules"):
        changed(host, restore=restore).change(before, [PUBLISHED])
    assert IptablesBackend(host).missing(before) == ()
    assert IptablesBackend(host).drift(before) == ()


def test_what_closes_withdraws_its_ports_although_something_is_missing(node: World, host: Host) -> None:
    IptablesBackend(host).change((), [ONE, PUBLISHED])
    node.lab.node.run(["ipset", "del", "b9version4", str(PUBLISHED.address4)])
    with pytest.raises(KernelError) as caught:
        IptablesBackend(host).change([PUBLISHED], ())
    assert caught.value.errno == errno.ENOENT
    assert [line for family in FAMILIES for line in published(host, family)] == []


def test_ports_are_withdrawn_although_somebody_withdrew_one(node: World, host: Host) -> None:
    IptablesBackend(host).change((), [PUBLISHED])
    first = published(host, "ipv4")[0].removeprefix("nat -A ").split()
    node.lab.node.run(["iptables-nft", "-w", "-t", "nat", "-D", *first])
    IptablesBackend(host).change([PUBLISHED], ())
    assert [line for family in FAMILIES for line in published(host, family)] == []


def test_a_withdrawal_that_is_refused_is_an_error(host: Host) -> None:
    def restore(*_: object) -> None:
        raise KernelError(errno.EIO, "load rules")

    IptablesBackend(host).change((), [PUBLISHED])
    with pytest.raises(KernelError, match="load rules"):
        changed(host, restore=restore).change([PUBLISHED], ())


class Recorded:
    """Calls of `Sets.apply`, in order: the sets of what is added, and of what is removed."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.added: list[str] = []
        self.removed: list[str] = []

    def __call__(self, added: Sequence[OwnedEntry], removed: Sequence[OwnedEntry]) -> None:
        self.added += [one.set for one in added]
        self.removed += [one.set for one in removed]
        self._host.sets.apply(added, removed)


def opens_last(sets: Sequence[str]) -> bool:
    """Each family's version, which says that there is such an endpoint, comes after where its packets may go."""
    last = {name: max(place for place, one in enumerate(sets) if one == name) for name in set(sets)}
    return all(last[f"b9version{family}"] > last[f"b9exposed{family}"] for family in (4, 6))


def test_a_repair_adds_in_the_order_in_which_it_opens_last(host: Host) -> None:
    heard = Recorded(host)
    assert changed(host, apply=heard).repair([PUBLISHED])
    assert opens_last(heard.added)
    assert heard.removed == []


def test_a_repair_takes_out_before_it_replaces_versions(host: Host) -> None:
    """Who has fewer ports by now has another version as well: flows are judged by it when the ports are gone."""
    IptablesBackend(host).change((), [PUBLISHED])
    fewer = msgspec.structs.replace(
        PUBLISHED, bindings=(), generation=PUBLISHED.generation + 1, past_generations=(PUBLISHED.generation,)
    )
    calls: list[str] = []

    def apply(added: Sequence[OwnedEntry], removed: Sequence[OwnedEntry]) -> None:
        calls.extend([*(f"add {one.set}" for one in added), *(f"delete {one.set}" for one in removed)])
        host.sets.apply(added, removed)

    assert changed(host, apply=apply).repair([fewer])
    assert max(calls.index("delete b9exposed4"), calls.index("delete b9exposed6")) < calls.index("add b9version4")
    assert "delete b9version4" not in calls  # never is it nobody's
    assert IptablesBackend(host).drift([fewer]) == ()


def test_a_set_of_ours_that_no_rule_needs_any_more_goes_with_the_next_laying(node: World) -> None:
    node.lab.node.run(["ipset", "create", "b9tlists4", "hash:ip"])
    assert node.wall.status().drift
    node.wall.reconcile()
    assert "b9tlists4" not in node.lab.node.run(["ipset", "list", "-n"]).text
    assert node.wall.status().drift == ()


def test_flows_are_forgotten_by_timeouts_of_ours_for_as_long_as_there_is_a_wall() -> None:
    settings = Settings(backend="iptables", iptables="nft")
    with open_world(settings=settings) as world, open_netfilter_socket() as netfilter:
        assert sorted(timeout_names(netfilter)) == ["b9c4", "b9c6", "b9e4", "b9e6"]
        world.wall.down()
        assert timeout_names(netfilter) == ()
