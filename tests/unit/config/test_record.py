"""The record of the settings in force: every setting as it was, or nothing."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.config import record_settings, recorded_settings
from cellwall.model.network import Network
from cellwall.model.settings import Audit, Settings, parse_openings

UNUSUAL = Settings(
    network=Network(
        name="other",
        bridge="br-cells",
        bridge_mac=0x02AB00000001,
        veth_prefix="cel",
        subnet4=ip_network("10.88.0.0/16"),
        gateway4=ip_address("10.88.255.254"),
        subnet6=ip_network("fd88::/64"),
        gateway6=ip_address("fd88::ffff"),
        mtu=1400,
    ),
    interface="eth1",
    public_addresses=(ip_address("203.0.113.1"), ip_address("2001:db8::1")),
    protect=(ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")),
    exceptions=parse_openings("resolver 10.0.0.2 udp,tcp/53", "x"),
    services=parse_openings("cache 192.168.7.1 tcp/3128", "x") + parse_openings("time fc00::1 udp/123", "x"),
    dns=(ip_address("10.0.0.2"), ip_address("2001:db8::53")),
    ipv6="off",
    nat_ports=(20000, 24000),
    reserved_ports=(30000, 30099),
    kept_ports=((31000, 32767),),
    mark=0x80000000,
    connections=77,
    new_connections=7,
    packets=70,
    tenant_connections=770,
    tenant_new_connections=71,
    tenant_packets=700,
    bytes=7000,
    tenant_bytes=70000,
    watched=("connections",),
    smtp="watched",
    backend="iptables",
    iptables="legacy",
    audit=Audit(log=False, group=9, rate=5, burst=50),
)


def test_a_record_is_read_as_it_was_written() -> None:
    usual = Settings()
    parts = ((UNUSUAL, usual), (UNUSUAL.network, usual.network), (UNUSUAL.audit, usual.audit))
    for unusual, default in parts:
        same = [name for name in unusual.__struct_fields__ if getattr(unusual, name) == getattr(default, name)]
        assert same == [], "the record is not tried with another value of these"
    for settings in (usual, UNUSUAL):
        text = record_settings(settings)
        assert recorded_settings(text) == settings
        assert record_settings(msgspec.structs.replace(settings)) == text
    assert record_settings(UNUSUAL) != record_settings(usual)


NOT_READ = ["", "{", "[]", "5d41402abc", '{"network.novel": 1}', '{"network.mtu": "x"}', '{"node.mode": "daemon"}']


@pytest.mark.parametrize("text", NOT_READ)
def test_what_another_version_wrote_and_this_one_cannot_read_is_nothing(text: str) -> None:
    assert recorded_settings(text) is None
