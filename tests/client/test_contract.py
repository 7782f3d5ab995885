"""One story for whoever offers the verbs: the wall itself, the client that waits, and the one that does not."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.client import AsyncClient, Client
from cellwall.engine.requests import AttachRequest
from cellwall.errors import AlreadyExists, CellwallError, Conflict, InvalidSpec, NotFound
from cellwall.lab import Lab
from cellwall.model.endpoint import EndpointKey, PortBinding, parse_binding
from cellwall.model.policy import Policy
from client.serving import served

pytestmark = pytest.mark.root


class Awaited:
    """The asynchronous client for a test that waits: each verb is awaited on one loop."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(verb(*arguments, **options))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module", params=["wall", "client", "asynchronous client"])
def node(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Any]:
    with ExitStack() as opened:
        if request.param == "wall":
            opened.enter_context(lab.node.enter())
            yield opened.enter_context(Wall.open(root=lab.root))
            return
        opened.enter_context(served(lab))
        if request.param == "client":
            yield opened.enter_context(Client.open(root=lab.root))
            return
        runner = opened.enter_context(asyncio.Runner())
        client = AsyncClient.open(root=lab.root)
        opened.callback(lambda: runner.run(client.close()))
        yield Awaited(client, runner)


@pytest.fixture(autouse=True)
def detached(node: Any) -> Iterator[None]:
    node.up()
    yield
    node.detach_many([endpoint.key for endpoint in node.endpoints()])


def test_up_says_what_it_found_and_a_second_one_changes_nothing(node: Any) -> None:
    node.down()
    first, second = node.up(), node.up()
    assert (first.changed, second.changed) == (True, False)
    assert first == msgspec.structs.replace(second, changed=True)
    assert first.uplink == "eth0" and first.ipv6 and first.mechanism == "nftables"
    assert node.dns() == first.dns
    status = node.status()
    assert (status.up, status.endpoints, status.drift, status.mechanism) == (True, 0, (), "nftables")
    assert node.reconcile().repaired == ()


def test_a_claim_is_told_like_an_attach_and_is_one_where_nothing_stands_ready(node: Any) -> None:
    claimed = node.claim("web", tenant="acme", expose=["8080:80"], block_network=True)
    assert node.claim("web", tenant="acme") == node.attach("web", tenant="acme") == node.endpoint("web") == claimed
    assert claimed.owns_netns and claimed.tiers.endpoint.mode == "block" and len(claimed.bindings) == 1
    with pytest.raises(AlreadyExists):
        node.claim("web", tenant="other")
    with pytest.raises(InvalidSpec):
        node.claim("~00000000")
    assert node.detach("web")


def test_what_nobody_recorded_nobody_tells(node: Any) -> None:
    assert node.log(tenant="acme", since="1h", limit=5).events == ()
    with pytest.raises(InvalidSpec, match="limit"):
        node.log(limit=10_001)


def test_an_endpoint_is_told_alike_by_all_that_tell_of_it(node: Any, lab: Lab) -> None:
    box = lab.sandbox("web")
    attached = node.attach(
        "web",
        netns=box.netns,
        tenant="acme",
        expose=["8080:80", PortBinding("udp", 9000, 9000, 9010), "93.184.216.10:8443:443@198.51.100.0/24"],
        address4=ip_address("192.168.3.4"),
        mac=0x02_00_00_00_00_77,
    )
    lab.delete_sandbox(box)
    assert attached.key == EndpointKey("web") and attached.tenant == "acme"
    assert (str(attached.address4), attached.mac) == ("192.168.3.4", 0x02_00_00_00_00_77)
    assert attached.netns == str(box.netns) and not attached.owns_netns
    assert [str(binding) for binding in attached.bindings] == [
        "8080:80/tcp", "9000-9010:9000/udp", "93.184.216.10:8443:443/tcp from 198.51.100.0/24",
    ]  # fmt: skip
    assert node.endpoint("web") == attached
    assert node.endpoints() == (attached,)


def test_attach_and_detach_may_be_asked_twice(node: Any) -> None:
    one = node.attach("web")
    assert node.attach("web") == one and one.owns_netns and one.tenant == ""
    assert node.detach("web") is True
    assert node.detach("web") is False
    assert node.endpoints() == ()


def test_ports_are_published_and_withdrawn(node: Any) -> None:
    plain = node.attach("web", ifname="net1")
    given = "[2606:2800:220:1::10]:8443:443@2001:db8::/32"
    assert node.expose("web", given, ifname="net1").bindings == (parse_binding(given),)
    assert node.expose("web", given, ifname="net1").bindings == (parse_binding(given),)
    assert len(node.expose_port("web", 8080, 80, ifname="net1").bindings) == 2
    assert node.unexpose("web", given, ifname="net1").bindings == (parse_binding("8080:80"),)
    left = node.unexpose("web", parse_binding("8080:80"), ifname="net1")
    assert left.bindings == () and left.key == plain.key
    assert node.unexpose("web", "8080:80", ifname="net1").bindings == ()


def test_ports_are_kept_for_a_container_and_given_back(node: Any) -> None:
    made = node.reserve_ports("web", 2, tenant="acme", seconds=60)
    assert (made.container, made.tenant, len(made.ports), made.seconds) == ("web", "acme", 2, 60.0)
    assert node.reserve_ports("web", 2, tenant="acme").ports == made.ports
    assert [(one.container, one.ports) for one in node.reservations()] == [("web", tuple(sorted(made.ports)))]
    node.attach("web", tenant="acme", expose=[f"{made.ports[0]}:80"])
    with pytest.raises(Conflict):
        node.attach("other", expose=[f"{made.ports[1]}:80"])
    any_free = node.expose("web", "auto:81/udp").bindings[1]
    assert (any_free.host_port, any_free.port) == (made.ports[1], 81)
    assert node.attach("more", expose=["auto:80"]).bindings[0].host_port > 60999
    assert (node.release_ports("web"), node.release_ports("web"), node.release_ports("more")) == (2, 0, 1)
    assert node.reservations() == ()


def test_many_are_attached_together_or_not_at_all(node: Any) -> None:
    names = [f"c{number}" for number in range(5)]
    many = node.attach_many([AttachRequest(name, tenant="acme") for name in names])
    assert [endpoint.key.container_id for endpoint in many] == names
    assert node.endpoints() == many
    with pytest.raises(Conflict):
        node.attach_many([AttachRequest("d0"), AttachRequest("d1", bindings=(parse_binding("80:80"),)),
                          AttachRequest("d2", address4=many[0].address4)])  # fmt: skip
    assert node.endpoints() == many
    assert node.detach_many([EndpointKey("c0"), EndpointKey("c1"), EndpointKey("no")]) == 2
    assert node.attach_many([]) == () and node.detach_many([]) == 0


def test_what_endpoints_pass_is_told_alike(node: Any, lab: Lab) -> None:
    box = lab.sandbox("busy")
    node.attach("busy", netns=box.netns, tenant="acme")
    before = node.traffic()
    box.inject("eth0", [b"\xff" * 12 + b"\x88\xb5" + bytes(86)] * 10)
    while (after := node.traffic()).at == before.at:  # what was told lately is told again
        continue
    (then,), (now,) = before.endpoints, after.endpoints
    lab.delete_sandbox(box)
    assert (now.key, now.tenant, now.connections) == (EndpointKey("busy"), "acme", 0)
    assert now.traffic.sent_packets - then.traffic.sent_packets >= 10
    assert now.traffic.sent_bytes - then.traffic.sent_bytes >= 1000


def test_what_is_wrong_with_an_endpoint_is_found(node: Any, lab: Lab) -> None:
    node.attach("web")
    assert node.verify("web") == ()
    lab.node.ip([f"link set {node.endpoint('web').host_link} down"])
    assert any("down" in line for line in node.verify("web"))
    assert node.reconcile().repaired
    assert node.verify("web") == ()


def test_policies_are_set_changed_and_taken_away(node: Any) -> None:
    node.attach("web", tenant="acme", policy={"mode": "allow", "rules": [{"action": "allow", "prefix": "1.1.1.1/32"}]})
    node.attach("shut", tenant="acme", block_network=True)
    assert node.endpoint("web").tiers.endpoint.mode == "allow"
    assert node.endpoint("shut").tiers.endpoint.mode == "block"
    assert node.policies() == {} and node.policy(tenant="acme") is None
    record = node.set_policy(Policy(mode="block"), tenant="acme")
    assert node.policy(tenant="acme") == record and node.policies() == {"acme": record}
    assert node.endpoint("web").tiers.tenant == Policy(mode="block")
    assert node.patch_policy({"mode": "open"}, tenant="acme").policy.mode == "open"
    permitted = node.update_network_permissions("web", allow_list=["9.9.9.9/32"])
    assert [str(rule.prefix) for rule in permitted.policy.rules] == ["9.9.9.9/32"]
    assert node.policy(container="web") == permitted
    assert (node.remove_policy(container="web"), node.remove_policy(container="web")) == (True, False)
    assert (node.remove_policy(tenant="acme"), node.remove_policy(tenant="acme")) == (True, False)
    for refused in (
        lambda: node.set_policy({"mode": "ajar"}, tenant="acme"),
        lambda: node.set_policy({"misspelt": 1}, tenant="acme"),
        lambda: node.set_policy({}, tenant="acme", container="web"),
        lambda: node.patch_policy({"rules": [{"action": "allow", "prefix": "10.0.0.0/8"}]}, tenant="acme"),
        lambda: node.attach("third", policy={"mode": "block"}, block_network=True),
    ):
        with pytest.raises(InvalidSpec):
            refused()
    with pytest.raises(NotFound):
        node.policy(container="nobody")


WRONG: list[tuple[str, Callable[[Any], object], type[CellwallError], str, str]] = [
    ("a container id", lambda node: node.attach("a b"), InvalidSpec, "container id", "a b"),
    ("an id of dots", lambda node: node.endpoint(".."), InvalidSpec, "container id", ".."),
    ("a slash", lambda node: node.detach("a/b"), InvalidSpec, "container id", "a/b"),
    ("an empty id", lambda node: node.verify(""), InvalidSpec, "container id", ""),
    ("an interface", lambda node: node.attach("web", ifname="lo"), InvalidSpec, "ifname", "lo"),
    ("a tenant", lambda node: node.attach("web", tenant="a\nb"), InvalidSpec, "tenant", "a\nb"),
    ("a group address", lambda node: node.attach("web", mac=1 << 40), InvalidSpec, "mac", "01:00:00:00:00:00"),
    ("the gateway", lambda node: node.attach("web", address4=ip_address("192.168.0.1")), InvalidSpec, "ip",
     "192.168.0.1"),
    ("a port", lambda node: node.attach("web", expose=["0:80"]), InvalidSpec, "expose.host_port", "0"),
    ("a port of a value", lambda node: node.expose("web", PortBinding("tcp", 0, 80)), InvalidSpec, "expose.host_port",
     "0"),
    ("the NAT range", lambda node: node.attach("web", expose=["20000:80"]), InvalidSpec, "expose.host_port",
     "20000:80/tcp"),
    ("no namespace", lambda node: node.attach("web", netns="/nonexistent"), NotFound, "", ""),
    ("nobody", lambda node: node.endpoint("web"), NotFound, "", ""),
    ("nobody to expose", lambda node: node.expose("web", "80:80"), NotFound, "", ""),
    ("another's port", lambda node: [node.attach(name, expose=["80:80"]) for name in ("web", "other")], Conflict, "",
     ""),
    ("another form", lambda node: [node.attach("web", tenant=name) for name in ("web", "x")], AlreadyExists, "", ""),
    ("a node in use", lambda node: [node.attach("web"), node.down()], Conflict, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "kind", "field", "value"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_refused_is_refused_alike(
    node: Any, ask: Callable[[Any], object], kind: type[CellwallError], field: str, value: str
) -> None:
    with pytest.raises(kind) as refused:
        ask(node)
    assert issubclass(type(refused.value), kind)
    if isinstance(refused.value, InvalidSpec):
        assert (refused.value.field, str(refused.value.value)) == (field, value)
        assert refused.value.reason and refused.value.reason in str(refused.value)
    node.detach("web")
    assert {endpoint.key.container_id for endpoint in node.endpoints()} <= {"other"}, "nothing was changed"
