"""The documents are a promise to programs, the tables are for people."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import msgspec

from cellwall.cli.render import endpoint_table, endpoint_text, table
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.wire.documents import endpoint_document

WEB = Endpoint(
    key=EndpointKey("web"),
    tenant="acme",
    host_link="b9h0123456789ab",
    host_index=7,
    mac=0x0A58C0A80002,
    address4=IPv4Address("192.168.0.2"),
    address6=IPv6Address("fd00:abcd::2"),
    generation=1,
    netns="/run/netns/web",
    netns_device=4,
    netns_inode=5,
    bindings=(PortBinding("tcp", 8080, 80, sources=(ip_network("203.0.113.0/24"),)),),
)
LONE = Endpoint(
    EndpointKey("a-much-longer-name", "eth1"), "x", "b9h1", 8, 1, IPv4Address("192.168.0.3"), None, 2, "/n", 4, 6
)


def test_document_of_an_endpoint_keeps_its_fields() -> None:
    assert msgspec.to_builtins(endpoint_document(WEB)) == {
        "container": "web",
        "interface": "eth0",
        "tenant": "acme",
        "address4": "192.168.0.2",
        "address6": "fd00:abcd::2",
        "mac": "0a:58:c0:a8:00:02",
        "host_interface": "b9h0123456789ab",
        "netns": "/run/netns/web",
        "exposed": (
            {
                "protocol": "tcp",
                "host_port": 8080,
                "host_port_last": 8080,
                "port": 80,
                "bind": None,
                "sources": ("203.0.113.0/24",),
                "proxy": None,
            },
        ),
        "host_index": 7,
        "netns_device": 4,
        "netns_inode": 5,
        "owns_netns": False,
        "generation": 1,
        "past_generations": (),
        "policies": None,
        "tenant_number": 0,
    }
    assert endpoint_document(LONE).address6 is None


def test_table_has_a_line_an_endpoint_and_aligned_columns() -> None:
    lines = endpoint_table([WEB, LONE]).splitlines()
    assert [line.split()[0] for line in lines] == ["CONTAINER", "web", "a-much-longer-name"]
    assert {line.index(word) for line, word in zip(lines, ("TENANT", "acme", "x "), strict=True)} == {20}
    assert lines[1].endswith("8080:80/tcp from 203.0.113.0/24")
    assert lines[2].endswith("-")
    assert not any(line != line.rstrip() for line in lines)


def test_empty_table_is_its_head() -> None:
    assert table(("A", "B"), []) == "A  B"


def test_text_of_one_endpoint_says_everything_once() -> None:
    text = endpoint_text(WEB)
    for part in ("web", "acme", "192.168.0.2 fd00:abcd::2", "0a:58:c0:a8:00:02", "b9h0123456789ab", "8080:80/tcp"):
        assert text.count(part) >= 1
