"""Who reaches a sandbox: exposed ports, and every way past them."""

import pytest

from cellwall.lab import addresses as at
from cellwall.ruleset.compose import SYN, flow_packet
from scene import GATEWAY4, GATEWAY6, OTHER, PUBLIC4, PUBLIC6, SCENE, WEB, directed, flow_of, judged

INGRESS = [
    # from, by, to, protocol, port → container port (None: not published)
    (at.LAN4, "eth0", at.NODE4, "tcp", 8080, 80),
    (at.LAN6, "eth0", at.NODE6, "tcp", 8080, 80),
    ("8.8.8.8", "eth0", at.NODE4, "udp", 8080, 80),
    (at.LAN4, "eth0", at.NODE4, "tcp", 8081, 81),  # bound to this address
    (at.LAN6, "eth0", at.NODE6, "tcp", 8081, None),
    (at.LAN4, "eth0", at.NODE_INFRA4, "tcp", 8081, None),
    (at.LAN4, "eth0", at.NODE4, "tcp", 8443, 443),  # these clients only
    (at.LAN6, "eth0", at.NODE6, "tcp", 8443, 443),
    (at.LAN4, "eth0", at.NODE4, "tcp", 9000, 9000),  # a range
    (at.LAN6, "eth0", at.NODE6, "tcp", 9010, 9010),
    (at.LAN4, "eth0", at.NODE4, "tcp", 9011, None),
    (at.LAN4, "eth0", at.NODE4, "tcp", 9105, 9105),  # a range with clients
    (at.LAN4, "eth0", at.NODE4, "tcp", 7003, 83),  # a shifted range
    (at.LAN4, "eth0", at.NODE4, "tcp", 80, None),
    (at.LAN4, "eth0", at.NODE4, "icmp", 0, None),
    (at.INFRA4, "eth1", at.NODE4, "tcp", 8080, None),  # not by the node interface
    (at.INFRA4, "eth1", at.NODE_INFRA4, "tcp", 8080, None),
    (at.OTHER4, "docker0", at.NODE_OTHER4, "tcp", 8080, None),
]


@pytest.mark.parametrize(
    ("source", "by", "to", "protocol", "port", "inside"),
    INGRESS,
    ids=[f"{r[0]} by {r[1]} to {r[2]} {r[4]}" for r in INGRESS],
)
def test_who_reaches_an_exposed_port(
    source: str, by: str, to: str, protocol: str, port: int, inside: int | None
) -> None:
    fate = SCENE.ingress(source, to, protocol, port, by=by)
    translation = fate.evaluation.translation
    if inside is None:
        # It stays the node's, whose affair it is.
        assert fate.verdict == "accept" and fate.reason in ("input", "connecting")
        assert translation is None
        return
    own = WEB.address4 if ":" not in to else WEB.address6
    assert (fate.verdict, fate.reason, fate.mark) == ("accept", "stamp-ingress", WEB.generation)
    assert translation is not None
    assert (translation.address, translation.port or port) == (int(own or 0), inside)


@pytest.mark.parametrize(
    ("source", "port"), [("8.8.8.8", 8443), ("93.184.216.21", 8443), ("93.184.216.40", 9100), (at.LAN6, 9100)]
)
def test_a_client_that_is_not_among_the_sources_is_dropped(source: str, port: int) -> None:
    fate = SCENE.ingress(source, at.NODE6 if ":" in source else at.NODE4, "tcp", port)
    if ":" in source and port == 9100:  # no source of this family: not published in it at all
        assert fate.evaluation.translation is None
    else:
        assert judged(fate) == ("drop", "not exposed", "FWD")


@pytest.mark.parametrize("by", ["eth0", "eth1", "docker0"])
@pytest.mark.parametrize("to", ["192.168.0.2", "192.168.0.9", GATEWAY4, "fd00:abcd::2", GATEWAY6])
@pytest.mark.parametrize("port", [80, 8080, 22])
def test_nobody_outside_routes_to_the_subnet(by: str, to: str, port: int) -> None:
    fate = SCENE.ingress(at.LAN6 if ":" in to else at.LAN4, to, "tcp", port, by=by)
    assert judged(fate) == ("drop", "direct routing to a sandbox", "RAW")


@pytest.mark.parametrize("to", ["127.0.0.1", "127.255.255.254", "::1"])
def test_loopback_is_no_destination_from_outside(to: str) -> None:
    fate = SCENE.ingress(at.LAN6 if ":" in to else at.LAN4, to, "tcp", 8080)
    assert judged(fate) == ("drop", "loopback from outside", "RAW")


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6, "93.184.216.77"])
def test_connections_of_a_tenant_to_a_published_port_number_elsewhere_are_its_own(to: str) -> None:
    """An unscoped translation would lead them into the tenant that published the port."""
    for protocol in ("tcp", "udp"):
        fate = SCENE.egress(OTHER, to, protocol, 8080)
        translation = fate.evaluation.translation
        assert translation is None or translation.kind == "masquerade"


@pytest.mark.parametrize(("to", "port"), [(at.NODE4, 8080), (at.NODE6, 8080), (GATEWAY4, 8080), (at.NODE_INFRA4, 8080)])
def test_the_node_itself_reaches_an_exposed_port_by_its_own_addresses(to: str, port: int) -> None:
    going = flow_of(to, to, "tcp", port)
    fate = SCENE.from_node(flow_packet(going), directed(going))
    assert fate.verdict == "accept"
    assert fate.evaluation.translation is not None
    assert (fate.evaluation.translation.address, fate.evaluation.translation.port) == (
        int((WEB.address6 if ":" in to else WEB.address4) or 0),
        80,
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_nodes_loopback_is_never_translated(address: str) -> None:
    going = flow_of(address, address, "tcp", 8080)
    assert SCENE.from_node(flow_packet(going), directed(going)).evaluation.translation is None


def test_the_answer_of_an_exposed_port_passes_and_nothing_that_looks_like_one() -> None:
    for client in (at.LAN4, at.LAN6):
        assert judged(SCENE.answer(WEB, client, mark=WEB.generation)) == ("accept", "B9-FORWARD", "")
        assert judged(SCENE.answer(WEB, client)) == ("accept", "stamp-ingress", "")  # judged again, same result
        assert judged(SCENE.answer(WEB, client, host_port=8099)) == ("drop", "not exposed", "FWD")
        assert judged(SCENE.answer(OTHER, client)) == ("drop", "not exposed", "FWD")


@pytest.mark.parametrize("client", [at.LAN4, at.LAN6, "8.8.8.8"])
def test_an_answer_that_opens_a_connection_is_dropped_whatever_its_flow_is(client: str) -> None:
    for mark in (0, WEB.generation):
        fate = SCENE.answer(WEB, client, mark=mark, tcp_flags=SYN)
        assert judged(fate) == ("drop", "connection opened backwards", "FWD")


@pytest.mark.parametrize("source", [at.NODE6, at.NODE_INFRA6, at.NODE4])
def test_the_nodes_own_address_is_no_client_from_outside(source: str) -> None:
    fate = SCENE.ingress(source, at.NODE6 if ":" in source else at.NODE4, "udp", 8080)
    assert judged(fate) == ("drop", "no unicast source", "FWD")


@pytest.mark.parametrize(
    "source",
    ["169.254.169.254", "169.254.169.253", "240.0.0.9", "168.63.129.16", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"],
)
def test_what_no_client_asks_from_is_one_only_where_it_completes_a_connection(source: str) -> None:
    to = at.NODE6 if ":" in source else at.NODE4
    assert judged(SCENE.ingress(source, to, "udp", 8080)) == ("drop", "no client asks from there", "FWD")
    assert judged(SCENE.ingress(source, to, "tcp", 8080)) == ("accept", "stamp-ingress", "")
