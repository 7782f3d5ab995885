"""From configuration, capabilities and CNI_ARGS to one attach request."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from cellwall.cni.codes import code_of
from cellwall.cni.conf import AttachConf, parse_conf
from cellwall.cni.request import Request, parse_request
from cellwall.errors import InvalidSpec
from cellwall.model.network import Network


def request(arguments: dict[str, str] | None = None, runtime: Any = None, **conf: Any) -> Request:
    document = {"cniVersion": "1.1.0", "name": "n", "runtimeConfig": runtime or {}, **conf}
    return parse_request(parse_conf(document, AttachConf), arguments or {})


def refused(*args: Any, **kwargs: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        request(*args, **kwargs)
    return caught.value


def test_without_a_tenant_each_container_is_its_own() -> None:
    assert request({"K8S_POD_NAMESPACE": "acme"}).tenant is None
    assert request(tenant="acme").tenant == "acme"
    assert request({"K8S_POD_NAMESPACE": "acme"}, tenantFrom="K8S_POD_NAMESPACE").tenant == "acme"


@pytest.mark.parametrize(("arguments", "conf", "field", "code"), [
    ({}, {"tenantFrom": "K8S_POD_NAMESPACE"}, "CNI_ARGS.K8S_POD_NAMESPACE", 4),
    ({"K8S_POD_NAMESPACE": "a b"}, {"tenantFrom": "K8S_POD_NAMESPACE"}, "CNI_ARGS.K8S_POD_NAMESPACE", 4),
    ({}, {"tenantFrom": "K8S_POD_NAME"}, "tenantFrom", 7),
    ({}, {"tenant": "a\nb"}, "tenant", 7),
    ({"K8S_POD_NAMESPACE": "b"}, {"tenant": "a", "tenantFrom": "K8S_POD_NAMESPACE"}, "tenant", 7),
])  # fmt: skip
def test_a_tenant_is_never_guessed(arguments: dict[str, str], conf: dict[str, str], field: str, code: int) -> None:
    error = refused(arguments, **conf)
    assert (error.field, code_of(error)) == (field, code)


def test_an_address_may_come_from_either_place_and_both_may_agree() -> None:
    asked = request({"IP": "192.168.0.9"}, {"ips": ["192.168.0.9/20", "fd00:abcd::9"]})
    assert asked.address4 == IPv4Address("192.168.0.9")
    assert asked.address6 == IPv6Address("fd00:abcd::9")
    assert asked.origin("ip", "192.168.0.9") == "runtimeConfig.ips[0]"
    assert asked.origin("ip", "fd00:abcd::9") == "runtimeConfig.ips[1]"
    assert request({"IP": "192.168.0.9,fd00:abcd::9"}).origin("ip", "fd00:abcd::9") == "CNI_ARGS.IP"


@pytest.mark.parametrize(("arguments", "runtime", "field", "value", "code"), [
    ({"IP": "192.168.0"}, {}, "CNI_ARGS.IP", "192.168.0", 4),
    ({"IP": "192.168.0.9/33"}, {}, "CNI_ARGS.IP", "192.168.0.9/33", 4),
    ({"IP": "fe80::1%eth0"}, {}, "CNI_ARGS.IP", "fe80::1%eth0", 4),
    ({}, {"ips": ["192.168.0.9\n"]}, "runtimeConfig.ips[0]", "192.168.0.9\\n", 7),
    ({}, {"ips": ["192.168.0.9/020"]}, "runtimeConfig.ips[0]", "192.168.0.9/020", 7),
    ({"IP": "192.168.0.9/255.255.240.0"}, {}, "CNI_ARGS.IP", "192.168.0.9/255.255.240.0", 4),
    ({}, {"ips": ["192.168.0.9", "192.168.0.10"]}, "runtimeConfig.ips[1]", "192.168.0.10", 7),
    ({"IP": "192.168.0.10"}, {"ips": ["192.168.0.9"]}, "CNI_ARGS.IP", "192.168.0.10", 4),
])  # fmt: skip
def test_a_bad_address_is_named_where_it_was_written(
    arguments: dict[str, str], runtime: dict[str, Any], field: str, value: str, code: int
) -> None:
    error = refused(arguments, runtime)
    assert (error.field, code_of(error)) == (field, code)
    assert value in str(error)


def test_a_prefix_length_of_another_network_is_refused() -> None:
    network = Network(subnet4=IPv4Network("10.1.0.0/16"), subnet6=IPv6Network("fd00:1::/64"))
    request({"IP": "10.1.0.9/16,fd00:1::9/64"}).require_subnets(network)
    request({"IP": "10.1.0.9/32,fd00:1::9/128"}).require_subnets(network)
    for text in ("10.1.0.9/24", "10.2.0.9/16", "fd00:2::9/64"):
        with pytest.raises(InvalidSpec, match="subnet") as caught:
            request({"IP": text}).require_subnets(network)
        assert (caught.value.field, code_of(caught.value)) == ("CNI_ARGS.IP", 4)
        assert text in str(caught.value)


@pytest.mark.parametrize(("arguments", "runtime", "field", "value"), [
    ({"MAC": "02:00:00:00:00"}, {}, "CNI_ARGS.MAC", "02:00:00:00:00"),
    ({"MAC": "00:00:00:00:00:00"}, {}, "CNI_ARGS.MAC", "00:00:00:00:00:00"),
    ({}, {"mac": "01:00:5e:00:00:01"}, "runtimeConfig.mac", "01:00:5e:00:00:01"),
    ({}, {"mac": "ff:ff:ff:ff:ff:ff"}, "runtimeConfig.mac", "ff:ff:ff:ff:ff:ff"),
    ({"MAC": "02:00:00:00:00:06"}, {"mac": "02:00:00:00:00:05"}, "CNI_ARGS.MAC", "02:00:00:00:00:06"),
])  # fmt: skip
def test_a_bad_mac_is_named_where_it_was_written(
    arguments: dict[str, str], runtime: dict[str, str], field: str, value: str
) -> None:
    error = refused(arguments, runtime)
    assert error.field == field
    assert value in str(error)
    assert code_of(error) == (4 if field.startswith("CNI_") else 7)


def test_the_same_mac_in_two_spellings_agrees() -> None:
    asked = request({"MAC": "02:AB:00:00:00:05"}, {"mac": "02:ab:00:00:00:05"})
    assert asked.mac == 0x02AB00000005
    assert asked.origin("mac", "x") == "runtimeConfig.mac"


def mapped(**mapping: Any) -> dict[str, Any]:
    return {"portMappings": [{"hostPort": 8080, "containerPort": 80, **mapping}]}


def test_port_mappings_become_bindings() -> None:
    (binding,) = request(runtime=mapped(protocol="UDP", hostIP="93.184.216.10")).bindings
    assert str(binding) == "93.184.216.10:8080:80/udp"
    assert str(request(runtime=mapped(protocol="")).bindings[0]) == "8080:80/tcp"


def test_a_wildcard_address_opens_its_own_family_only() -> None:
    (four,) = request(runtime=mapped(hostIP="0.0.0.0")).bindings
    (six,) = request(runtime=mapped(hostIP="::")).bindings
    assert (four.bind, four.sources) == (None, (IPv4Network("0.0.0.0/0"),))
    assert (six.bind, six.sources) == (None, (IPv6Network("::/0"),))


@pytest.mark.parametrize(("mapping", "field", "value"), [
    ({"hostPort": 0}, "hostPort", "0"), ({"hostPort": 65536}, "hostPort", "65536"),
    ({"hostPort": -1}, "hostPort", "-1"), ({"containerPort": 0}, "containerPort", "0"),
    ({"protocol": "sctp"}, "protocol", '"sctp"'), ({"hostIP": "127.0.0.1"}, "hostIP", "127.0.0.1"),
    ({"hostIP": "node"}, "hostIP", '"node"'), ({"hostIP": "fe80::1%eth0"}, "hostIP", "fe80::1%eth0"),
])  # fmt: skip
def test_a_bad_port_mapping_names_its_entry(mapping: dict[str, Any], field: str, value: str) -> None:
    error = refused(runtime=mapped(**mapping))
    assert error.field == f"runtimeConfig.portMappings[0].{field}"
    assert value in str(error)
    assert code_of(error) == 7


def test_complaints_of_the_wall_are_told_in_the_callers_words() -> None:
    asked = request({"MAC": "02:00:00:00:00:05"}, mapped())
    assert asked.origin("mac", "") == "CNI_ARGS.MAC"
    assert asked.origin("netns", "") == "CNI_NETNS"
    assert asked.origin("ifname", "") == "CNI_IFNAME"
    assert asked.origin("expose.host_port", "8080:80/tcp") == "runtimeConfig.portMappings[0].hostPort"
    assert asked.origin("expose.bind", "fd00::1") == "runtimeConfig.portMappings.hostIP"
    assert asked.origin("network.subnet4", "") == "network.subnet4"


@pytest.mark.parametrize(("message", "told"), [
    ("mac: 02:00:00:00:00:05: belongs to container db", "CNI_ARGS.MAC: 02:00:00:00:00:05: belongs to container db"),
    ("ip: 192.168.0.9: is leased", "CNI_ARGS.IP: 192.168.0.9: is leased"),
    ("container id: web/eth0: is attached", "CNI_CONTAINERID: web/eth0: is attached"),
    ("expose.host_port: 8080:80/tcp: is taken", "runtimeConfig.portMappings[0].hostPort: 8080:80/tcp: is taken"),
    ("network.subnet4: 10.0.0.0/29: all leased", "network.subnet4: 10.0.0.0/29: all leased"),
    ("the node is not up", "the node is not up"),
])  # fmt: skip
def test_a_conflict_is_retold_in_the_callers_words(message: str, told: str) -> None:
    asked = request({"MAC": "02:00:00:00:00:05", "IP": "fd00:abcd::9"}, mapped())
    assert asked.retold(message) == told
