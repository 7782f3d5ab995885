"""Published ports against an oracle that knows bindings and no rules: any bindings, any client, any port."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec
from hypothesis import given, note
from hypothesis import strategies as st

from cellwall.lab import addresses as at
from cellwall.model.addresses import Address
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.ruleset.compose import SYN_ACK, flow_packet
from cellwall.ruleset.context import Flow
from examples import examples
from scene import GATEWAY_MAC, Scene, endpoint, flow_of

HERE = {4: [ip_address(at.NODE4), ip_address(at.NODE_INFRA4)], 6: [ip_address(at.NODE6), ip_address(at.NODE_INFRA6)]}
CLIENTS = [ip_address(text) for text in (at.LAN4, at.INTERNET4, "8.8.8.8", at.LAN6, at.INTERNET6, "2001:4860::8")]
NETWORKS = [
    ip_network(text, strict=False)
    for text in (f"{at.LAN4}/32", f"{at.LAN4}/28", "0.0.0.0/0", "8.0.0.0/8", f"{at.LAN6}/128", f"{at.LAN6}/64", "::/0")
]
PORTS = range(1, 13)


@st.composite
def bindings(draw: st.DrawFn) -> PortBinding:
    first = draw(st.sampled_from(PORTS))
    last = draw(st.integers(first, PORTS[-1]))
    bind = draw(st.none() | st.sampled_from([*HERE[4], *HERE[6]]))
    sources = draw(st.lists(st.sampled_from(NETWORKS), max_size=3))
    if bind is not None:
        sources = [source for source in sources if source.version == bind.version]
    return PortBinding(
        protocol=draw(st.sampled_from(["tcp", "udp"])),
        host_port=first,
        host_port_last=last if last > first else 0,
        port=draw(st.sampled_from([first, 80])),
        bind=bind,
        sources=tuple(sources),
    )


@st.composite
def crowds(draw: st.DrawFn) -> list[Endpoint]:
    """Up to three endpoints whose bindings do not claim each other's ports."""
    taken: list[PortBinding] = []
    crowd = []
    for number in range(2, 2 + draw(st.integers(1, 3))):
        own = []
        for binding in draw(st.lists(bindings(), max_size=3)):
            if not any(binding.overlaps(other) for other in taken):
                taken.append(binding)
                own.append(binding)
        one = endpoint(f"c{number}", number, ipv6=draw(st.booleans()))
        crowd.append(msgspec.structs.replace(one, bindings=tuple(own)))
    return crowd


def published(crowd: list[Endpoint], to: Address, protocol: str, port: int) -> tuple[Address, PortBinding] | None:
    """Whose the port is: the container's address, and the binding."""
    for one in crowd:
        own: IPv4Address | IPv6Address | None = one.address4 if to.version == 4 else one.address6
        for binding in one.bindings:
            same = binding.protocol == protocol and binding.host_port <= port <= binding.last
            here = binding.bind in (None, to)
            served = not binding.sources or any(source.version == to.version for source in binding.sources)
            if own is not None and same and here and served:
                return own, binding
    return None


def admits(binding: PortBinding, client: Address) -> bool:
    return not binding.sources or any(
        client in source for source in binding.sources if source.version == client.version
    )


@examples(150)
@given(crowd=crowds(), data=st.data())
def test_a_client_reaches_what_is_published_for_it_and_nothing_else(crowd: list[Endpoint], data: st.DataObject) -> None:
    scene = Scene(*crowd)
    note(str([[str(binding) for binding in one.bindings] for one in crowd]))
    for client in CLIENTS:
        to = data.draw(st.sampled_from(HERE[client.version]))
        protocol, port = data.draw(st.sampled_from(["tcp", "udp"])), data.draw(st.sampled_from(PORTS))
        fate = scene.ingress(str(client), str(to), protocol, port)
        translation = fate.evaluation.translation
        found = published(crowd, to, protocol, port)
        if found is None:
            assert (fate.verdict, translation) == ("accept", None) and fate.reason in ("input", "connecting")
            continue
        own, binding = found
        inside = binding.port + port - binding.host_port
        assert translation is not None
        assert (translation.address, translation.port or port) == (int(own), inside)
        expected = ("accept", "stamp-ingress") if admits(binding, client) else ("drop", "not exposed")
        assert (fate.verdict, fate.reason) == expected
        # What the container would answer has the same fate: both directions are decided over the same tuples.
        holder = next(one for one in crowd if own in (one.address4, one.address6))
        coming = flow_of(str(client), str(to), protocol, port)
        going = msgspec.structs.replace(flow_of(str(client), str(own), protocol, inside)).reversed()
        entry = Flow(coming, going, "established", "reply", frozenset(("dnat", "confirmed")))
        packet = flow_packet(going, source_mac=holder.mac, destination_mac=GATEWAY_MAC, tcp_flags=SYN_ACK)
        answered = scene.from_sandbox(holder, packet, entry)
        assert (answered.verdict, answered.reason) == expected
