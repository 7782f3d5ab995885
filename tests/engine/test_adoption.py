"""A node on which beta9's own networking runs containers is walled by `up`, without a word of configuration."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from beta9 import LEGACY, NEW, Container, Shape, leave_beta9, publish, rule, rules_of
from cellwall.doctor import diagnose, observe
from cellwall.engine.backend import BackendName
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import PortBinding
from cellwall.model.policy import Policy
from cellwall.model.settings import Settings
from engine.adoption import KINDS, THEIRS, Site, found_site, inner
from world import Stream, assert_connection, assert_no_connection, open_world, public

pytestmark = pytest.mark.root

METADATA = "169.254.169.254"


@pytest.fixture(params=KINDS)
def found(request: pytest.FixtureRequest) -> Iterator[Site]:
    with found_site(request.param) as site:
        yield site


def test_containers_are_pinned_to_the_addresses_found_and_their_ports_taken_over(found: Site) -> None:
    world = found.world
    world.wall.up()
    web, job = (world.wall.endpoint(one.name, ifname=inner(one)) for one in (found.web, found.job))
    assert [str(web.address4), str(job.address4)] == [found.web.address4, found.job.address4]
    assert (web.bindings, job.bindings) == ((PortBinding("tcp", 30080, 80),), ())
    for one, endpoint in ((found.web, web), (found.job, job)):
        assert mac_text(endpoint.mac) == one.host.mac(endpoint.key.ifname)
        assert endpoint.host_link.startswith("b9h")
        for family in (4, 6):
            assert_connection(one.host, public(family), 80)
    for client in (world.lab.lan, world.lab.internet):
        for address in (NODE4, NODE6):
            assert_connection(client, address, 30080)
    assert world.wall.status().drift == ()
    assert world.wall.verify(found.web.name, ifname=inner(found.web)) == ()


def test_the_wall_holds_what_beta9_let_through(found: Site) -> None:
    world, job = found.world, found.job.host
    assert_connection(job, found.web.address4, 80)
    world.wall.up()
    assert_no_connection(job, found.web.address4, 80)
    assert_no_connection(job, METADATA, 80)
    assert_no_connection(world.lab.lan, found.web.address4, 80)
    job.run(["ip", "address", "add", "192.168.9.9/32", "dev", inner(found.job)])
    assert connect(job, public(4), 80, source="192.168.9.9", timeout=0.3).kind != "answer"


@pytest.mark.parametrize("shape", [NEW, LEGACY], ids=["nft", "legacy"])
def test_a_wall_in_iptables_takes_over_as_well(shape: Shape) -> None:
    with open_world(settings=Settings(backend="iptables"), up=False) as world:
        web, job = leave_beta9(world.lab, shape)
        publish(world.lab, shape, web, 30080, 80)
        # Its own security chain has the name of ours.
        rule(world.lab, shape, 4, "-N B9-FORWARD")
        rule(world.lab, shape, 4, "-A B9-FORWARD -i b9_br0 -o b9_br0 -j DROP")
        rule(world.lab, shape, 4, "-I FORWARD 1 -j B9-FORWARD")
        with world.lab.internet.serve(tcp=[80, 7]), web.host.serve(tcp=[80]):
            with Stream(job.host, public(4), 7) as flow:
                assert flow.ask(world.token())
                world.wall.up()
                assert flow.ask(world.token(), 5.0)
            assert_connection(world.lab.lan, NODE4, 30080)
            assert_connection(job.host, public(6), 80)
            assert_no_connection(job.host, web.address4, 80)
            assert_no_connection(job.host, METADATA, 80)
        assert [line for line in rules_of(world.lab, shape) if f"{web.veth}:" in line] == []
        assert world.wall.status().drift == ()
        assert world.wall.up().changed is False


def test_permissive_rules_go_and_those_of_others_stay(found: Site) -> None:
    world = found.world
    for line in ("-N B9-FORWARD", "-A B9-FORWARD -i b9_br0 -o b9_br0 -j DROP", "-I FORWARD 1 -j B9-FORWARD"):
        rule(world.lab, found.shape, 4, line)
    world.wall.up()
    left = rules_of(world.lab, found.shape)
    assert [line for line in left if "B9-FORWARD" in line] == []
    assert [line for line in left if "b9_" in line or "b9h" in line or "MASQUERADE" in line] == []
    assert THEIRS in left


OPERATORS = (
    "-A FORWARD ! -i b9_br0 -o eth1 -j ACCEPT",
    "-A FORWARD -i wg0 ! -o b9_br0 -j ACCEPT",
    "-A FORWARD -i b9_br0 -o wg0 -j ACCEPT",
    "-A INPUT -i b9_br0 -j B9-FORWARD",
    "-A POSTROUTING -s 192.168.0.0/20 -o wg0 -m comment --comment vpn -j MASQUERADE",
    "-A POSTROUTING -s 10.0.0.0/255.0.255.0 -o eth0 -j MASQUERADE",
)


def test_what_an_operator_wrote_about_the_bridge_stays(found: Site) -> None:
    world = found.world
    rule(world.lab, found.shape, 4, "-N B9-FORWARD")
    for line in OPERATORS:
        rule(world.lab, found.shape, 4, ("-t nat " if "POSTROUTING" in line else "") + line)
    world.wall.up()
    left = rules_of(world.lab, found.shape)
    assert [line for line in OPERATORS if line not in left] == []
    assert_connection(found.web.host, public(4), 80)


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_a_port_that_two_containers_have_is_the_first_rules(backend: BackendName) -> None:
    """Both would be two elements of one key, which no set takes: the node was claimed by then, and had no wall."""
    with open_world(settings=Settings(backend=backend), up=False) as world:
        web, job = leave_beta9(world.lab, NEW)
        for container in (web, job):  # each before the one before it
            publish(world.lab, NEW, container, 30080, 80)
        publish(world.lab, NEW, web, 30081, 81)
        with job.host.serve(tcp=[80]), web.host.serve(tcp=[81]):
            world.wall.up()
            has = {endpoint.key.container_id: endpoint.bindings for endpoint in world.wall.endpoints()}
            assert has == {web.name: (PortBinding("tcp", 30081, 81),), job.name: (PortBinding("tcp", 30080, 80),)}
            assert world.wall.status().drift == ()
            for host_port in (30080, 30081):
                assert_connection(world.lab.lan, NODE4, host_port)
            assert_no_connection(job.host, web.address4, 81)


def test_open_flows_go_on(found: Site) -> None:
    world = found.world
    with (
        Stream(found.job.host, public(4), 7) as egress4,
        Stream(found.job.host, public(4), 7, udp=True) as datagrams,
        Stream(world.lab.lan, NODE4, 30080) as ingress,
    ):
        flows = (egress4, datagrams, ingress)
        assert all(flow.ask(world.token()) for flow in flows)
        world.wall.up()
        for flow in flows:
            assert flow.ask(world.token(), 5.0)


def test_a_second_up_finds_nothing_to_do(found: Site) -> None:
    world = found.world
    world.wall.up()
    before = rules_of(world.lab, found.shape), world.wall.endpoints()
    assert world.wall.up().changed is False
    assert world.wall.reconcile().repaired == ()
    assert (rules_of(world.lab, found.shape), world.wall.endpoints()) == before


def test_what_is_adopted_is_detached_and_attached_beside_like_any_other(found: Site) -> None:
    world = found.world
    world.wall.up()
    tenant = world.attach("tenant", expose=["30081:80"])
    tenant.host.serve(tcp=[80])
    assert tenant.address(4) not in (found.web.address4, found.job.address4)
    assert_no_connection(tenant.host, found.web.address4, 80)
    assert world.wall.detach(found.web.name, ifname=inner(found.web))
    assert_no_connection(found.web.host, public(4), 80)
    assert_no_connection(world.lab.lan, NODE4, 30080)
    assert_connection(found.job.host, public(4), 80)
    assert_connection(world.lab.lan, NODE4, 30081)
    world.wall.down(force=True)
    assert "b9_br0" not in world.lab.node.run(["ip", "link"]).text


def restrict(site: Site, container: Container, *allowed: str) -> None:
    """As beta9's worker blocks a container's network, but for these networks."""
    note = f'-m comment --comment "{container.veth}:{container.name}:{container.name}"'
    states = "-m conntrack ! --ctstate ESTABLISHED,RELATED"
    for version, address in ((4, container.address4), (6, container.address6)):
        rule(site.world.lab, site.shape, version, f"-I FORWARD 1 -s {address} -o eth0 {states} -j DROP {note}")
    for network in allowed:
        allows = f"-I FORWARD 1 -s {container.address4} -d {network} -o eth0 -j ACCEPT {note}"
        rule(site.world.lab, site.shape, 4, allows)


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("shape", [NEW, LEGACY], ids=["nft", "legacy"])
def test_what_a_container_was_kept_from_it_is_kept_from(
    shape: Shape, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    """A wall in iptables accepts ahead of beta9's rule, and let out whom it had blocked. It has no words for a list:
    there its container opens nothing."""
    with open_world(settings=Settings(backend=backend), up=False) as world:
        web, job = leave_beta9(world.lab, shape)
        publish(world.lab, shape, web, 30080, 80)
        found = Site(world, shape, web, job)
        restrict(found, web)
        restrict(found, job, f"{public(4)}/32")
        with world.lab.internet.serve(tcp=[80]), web.host.serve(tcp=[80]):
            assert_no_connection(web.host, public(4), 80)
            assert_connection(job.host, public(4), 80)
            world.wall.up()
            listed = assert_connection if backend == "nftables" else assert_no_connection
            listed(job.host, public(4), 80)
            for container, family in ((web, 4), (web, 6), (job, 6)):
                assert_no_connection(container.host, public(family), 80)
            assert_connection(world.lab.lan, NODE4, 30080)  # what others open is answered
        assert ("no form in iptables" in caplog.text) == (backend == "iptables")
        assert [line for line in rules_of(world.lab, shape) if web.veth in line or job.veth in line] == []
        assert world.wall.status().drift == ()


def test_a_container_that_is_taken_over_is_of_no_tenant_whatever_its_id(found: Site) -> None:
    found.world.wall.set_policy(Policy(mode="block"), tenant=found.job.name)
    found.world.wall.up()
    assert {one.tenant for one in found.world.wall.endpoints()} == {""}
    assert_connection(found.job.host, public(4), 80)
    found.world.wall.set_policy(Policy(mode="block"), container=found.job.name, ifname=inner(found.job))
    assert_no_connection(found.job.host, public(4), 80)


def test_what_an_operator_denies_a_container_stays_and_is_told(found: Site, caplog: pytest.LogCaptureFixture) -> None:
    rule(found.world.lab, found.shape, 4, f"-I FORWARD 1 -s {found.job.address4} -o eth0 -j DROP")
    found.world.wall.up()
    assert any(f"-s {found.job.address4}/32" in line for line in rules_of(found.world.lab, found.shape))
    assert f"-s {found.job.address4}/32" in caplog.text
    assert_no_connection(found.job.host, public(4), 80)


def test_the_doctor_tells_what_up_would_take_over(found: Site) -> None:
    def about_the_bridge() -> list[tuple[str, str]]:
        findings = diagnose(observe(Settings()), Settings())
        return [(one.severity, one.observed) for one in findings if one.subject == "network.bridge"]

    assert about_the_bridge() == [("note", "b9_br0 is beta9's, with 2 container(s) that can be taken over")]
    found.world.wall.up()
    assert about_the_bridge() == []


def test_a_container_that_keeps_its_mac_keeps_the_neighbours_that_it_was_told(found: Site) -> None:
    """Whatever sets a MAC makes the kernel forget them, also where it is the same one."""
    own = f"10.7.7.7 dev {inner(found.web)} lladdr 02:00:00:00:07:07 PERMANENT"
    found.web.host.run(["ip", "neighbour", "add", *own.replace("PERMANENT", "nud permanent").split()])
    found.world.wall.up()
    assert own in found.web.host.run(["ip", "neighbour"]).text


def test_addresses_are_those_of_the_pool(found: Site) -> None:
    found.world.wall.up()
    for endpoint in found.world.wall.endpoints():
        assert isinstance(endpoint.address4, IPv4Address)
        assert isinstance(endpoint.address6, IPv6Address)
        assert endpoint.address6 == found.world.wall.settings.network.address6(endpoint.address4)
