"""Ports of a bridge that is taken over whose container cannot be told: they stay closed, and are never deleted."""

from collections.abc import Iterator

import pytest

from beta9 import leave_beta9, run_container
from cellwall.doctor import diagnose, observe
from cellwall.lab.addresses import NODE4
from cellwall.model.addresses import mac_text
from cellwall.model.network import default_mac
from cellwall.model.settings import Settings
from engine.adoption import KINDS, Site, found_site, inner, links
from world import assert_connection, assert_no_connection, public

pytestmark = pytest.mark.root


@pytest.fixture(params=KINDS)
def found(request: pytest.FixtureRequest) -> Iterator[Site]:
    with found_site(request.param) as site:
        yield site


def test_whoever_takes_a_neighbours_mac_cuts_nobody_off(found: Site) -> None:
    world, thief, victim = found.world, found.job, found.web
    thief.host.ip([f"link set {inner(thief)} address {victim.host.mac(inner(victim))}"])
    world.wall.up()
    for container in (victim, thief):
        endpoint = world.wall.endpoint(container.name, ifname=inner(container))
        assert endpoint.mac == default_mac(endpoint.address4)
        assert container.host.mac(inner(container)) == mac_text(endpoint.mac)
        for family in (4, 6):
            assert_connection(container.host, public(family), 80)
    assert_connection(world.lab.lan, NODE4, 30080)
    assert world.wall.reconcile().repaired == ()


def test_what_stays_closed_is_told_and_never_deleted(found: Site) -> None:
    """Whoever claims the address of a neighbour to whom no port leads closes that one, and itself; but the operator may
    put it right."""
    world, shape = found.world, found.shape
    thief = run_container(world.lab, shape, shape.first + 7)
    thief.host.ip(
        [
            f"address flush dev {inner(thief)} scope global",
            f"address add {found.job.address4}/{shape.prefixlen} dev {inner(thief)}",
        ]
    )
    warned = [
        one.observed.split()[1].strip(":")
        for one in diagnose(observe(Settings()), Settings())
        if "claimed" in one.observed
    ]
    assert warned == [found.job.veth, thief.veth]
    world.wall.up()
    for _ in range(2):
        status = world.wall.status()
        assert status.drift == ()
        closed = [line.split()[0] for line in status.warnings if "stays closed" in line]
        assert closed == [f'"{container.veth}"' for container in (found.job, thief)]
        assert world.wall.reconcile().repaired == ()
    for container in (found.job, thief):
        assert_no_connection(container.host, public(4), 80)
    world.attach(found.job.name, host=found.job.host)
    assert_connection(found.job.host, public(4), 80)
    world.wall.down(force=True)
    left = world.lab.node.run(["ip", "link"]).text
    assert f" {found.job.veth}@" in left and f" {thief.veth}@" in left
    world.wall.up()
    assert world.wall.reconcile().repaired == ()


def test_what_one_take_over_left_closed_the_next_one_leaves_too(found: Site) -> None:
    """beta9's worker may make its bridge again; what stayed closed before is no link of ours for it."""
    world, shape = found.world, found.shape
    loose = f"{shape.veth}zz"
    world.lab.node.ip([f"link add {loose} type veth peer name loose", f"link set {loose} master b9_br0 up"])
    world.wall.up()
    world.wall.down(force=True)
    again, other = leave_beta9(world.lab, shape._replace(first=shape.first + 20))
    other.host.run(["ip", "address", "flush", "dev", inner(other), "scope", "global"])
    world.wall.up()
    told = [line.split()[0] for line in world.wall.status().warnings if "stays closed" in line]
    assert told == [f'"{loose}"', f'"{other.veth}"']
    assert world.wall.reconcile().repaired == ()
    assert f" {loose}@" in links(world)
    assert_connection(again.host, public(4), 80)
    world.wall.down(force=True)
    assert f" {loose}@" in links(world) and f" {other.veth}@" in links(world)


def test_a_port_that_cannot_be_told_stays_closed(found: Site, caplog: pytest.LogCaptureFixture) -> None:
    """One that leads into no named namespace, and one whose sandbox claims the address of another."""
    world, shape = found.world, found.shape
    thief = run_container(world.lab, shape, shape.first + 7)
    thief.host.run(["ip", "address", "flush", "dev", inner(thief), "scope", "global"])
    thief.host.run(["ip", "address", "add", f"{found.web.address4}/{shape.prefixlen}", "dev", inner(thief)])
    world.lab.node.ip(
        [f"link add {shape.veth}zz type veth peer name loose", f"link set {shape.veth}zz master b9_br0 up"]
    )
    world.wall.up()
    assert {endpoint.key.container_id for endpoint in world.wall.endpoints()} == {found.web.name, found.job.name}
    assert f"{thief.veth} stays closed" in caplog.text
    assert f"{shape.veth}zz stays closed" in caplog.text
    thief.host.run(["ip", "route", "add", "default", "via", shape.gateway4, "dev", inner(thief), "onlink"])
    assert_no_connection(thief.host, public(4), 80)
    assert_connection(found.web.host, public(4), 80)
