"""The text half: what a runtime writes is parsed once, and refused with the specification's code, field and value."""

import msgspec
import pytest

from cellwall.cni.codes import code_of
from cellwall.cni.conf import (
    AttachConf,
    CollectConf,
    NetworkConf,
    decode_document,
    parse_conf,
    require_version,
)
from cellwall.errors import InvalidSpec

BASE = {"cniVersion": "1.1.0", "name": "cellwall", "type": "cellwall-cni"}


def refused(**changes: object) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        parse_conf({**BASE, **changes}, AttachConf)
    return caught.value


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b'{"a": 1} x', b"\xff\xfe", b'"text"', b"[]", b"null"])
def test_what_is_not_a_json_object_is_a_decoding_failure(raw: bytes) -> None:
    with pytest.raises(InvalidSpec) as caught:
        decode_document(raw)
    assert code_of(caught.value) == 6
    assert "network configuration" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_input_without_end_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidSpec, match="longer than 1 MiB"):
        decode_document(b" " * (1 << 20) + b"{}")


@pytest.mark.parametrize("version", ["0.3.1", "0.1.0", "2.0.0", "1.0", "", "1.1.0\n"])
def test_an_unsupported_version_names_itself_and_the_supported_ones(version: str) -> None:
    with pytest.raises(InvalidSpec, match=r"cniVersion: .*supported: 0\.4\.0, 1\.0\.0, 1\.1\.0") as caught:
        require_version({**BASE, "cniVersion": version}, "ADD")
    assert code_of(caught.value) == 1


def test_a_missing_version_is_incompatible_and_a_number_is_undecodable() -> None:
    for document, code in (({"name": "x"}, 1), ({"cniVersion": 1.0}, 6)):
        with pytest.raises(InvalidSpec) as caught:
            require_version(document, "ADD")
        assert code_of(caught.value) == code


@pytest.mark.parametrize(("verb", "version", "accepted"), [
    ("ADD", "0.4.0", True), ("DEL", "1.0.0", True), ("CHECK", "0.4.0", True),
    ("STATUS", "1.1.0", True), ("STATUS", "1.0.0", False), ("GC", "1.1.0", True), ("GC", "0.4.0", False),
])  # fmt: skip
def test_a_verb_needs_the_version_that_brought_it(verb: str, version: str, accepted: bool) -> None:
    if accepted:
        require_version({"cniVersion": version}, verb)
        return
    with pytest.raises(InvalidSpec, match=f"has no {verb}") as caught:
        require_version({"cniVersion": version}, verb)
    assert code_of(caught.value) == 1


@pytest.mark.parametrize(("changes", "field", "value"), [
    ({"tenent": "acme"}, "tenent", '"acme"'),
    ({"isGateway": True}, "isGateway", "true"),
    ({"ipam": {"type": "host-local"}}, "ipam", "host-local"),
    ({"ipMasq": False}, "ipMasq", "false"),
    ({"dns": {"servers": ["1.1.1.1"]}}, "dns.servers", "1.1.1.1"),
    ({"capabilities": {"bandwidth": True}}, "capabilities.bandwidth", "true"),
    ({"runtimeConfig": {"bandwidth": {}}}, "runtimeConfig.bandwidth", "{}"),
    ({"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIp": "::1"}]}},
     "runtimeConfig.portMappings[0].hostIp", "::1"),
])  # fmt: skip
def test_an_unknown_key_is_unsupported_and_named_with_its_value(
    changes: dict[str, object], field: str, value: str
) -> None:
    error = refused(**changes)
    assert code_of(error) == 2
    assert error.field == field
    assert value in str(error)


@pytest.mark.parametrize("changes", [
    {"args": {"cni": {"labels": []}}}, {"cni.dev/attachments": []}, {"capabilities": {"bandwidth": False}},
    {"ipam": {}}, {"ipMasq": True},
])  # fmt: skip
def test_what_the_specification_reserves_is_ignored(changes: dict[str, object]) -> None:
    assert parse_conf({**BASE, **changes}, AttachConf) == parse_conf(BASE, AttachConf)


@pytest.mark.parametrize(("changes", "field", "value"), [
    ({"name": "a b"}, "name", '"a b"'),
    ({"name": "a\nb"}, "name", '"a\\nb"'),
    ({"name": "../x"}, "name", '"../x"'),
    ({"name": 7}, "name", "7"),
    ({"root": "relative"}, "root", '"relative"'),
    ({"subnets": "10.0.0.0/8"}, "subnets", '"10.0.0.0/8"'),
    ({"dns": {"nameservers": ["1.1.1.1", 8]}}, "dns.nameservers[1]", "8"),
    ({"dns": {"nameservers": "1.1.1.1"}}, "dns.nameservers", '"1.1.1.1"'),
    ({"runtimeConfig": {"mac": 5}}, "runtimeConfig.mac", "5"),
    ({"runtimeConfig": {"portMappings": [{"hostPort": "80", "containerPort": 80}]}},
     "runtimeConfig.portMappings[0].hostPort", '"80"'),
    ({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}, "runtimeConfig.portMappings[0]", "containerPort"),
    ({"prevResult": []}, "prevResult", "[]"),
])  # fmt: skip
def test_a_wrong_value_is_an_invalid_configuration_named_with_its_value(
    changes: dict[str, object], field: str, value: str
) -> None:
    error = refused(**changes)
    assert code_of(error) == 7
    assert error.field == field
    assert value in str(error)
    assert "\n" not in str(error)


def test_what_plugins_before_reported_is_kept_as_it_came() -> None:
    reported = {"cniVersion": "1.1.0", "interfaces": [{"name": "x", "socketPath": "/s"}]}
    assert parse_conf({**BASE, "prevResult": reported}, AttachConf).previous == reported


def test_null_is_no_key_at_all() -> None:
    text = b"""{"cniVersion": "1.0.0", "name": "n", "type": "cellwall-cni", "tenant": null, "subnets": null,
        "ipam": null, "dns": {"nameservers": null}, "args": null, "capabilities": null, "prevResult": null,
        "runtimeConfig": {"portMappings": null, "ips": null, "mac": null}}"""
    bare = parse_conf({"cniVersion": "1.0.0", "name": "n"}, AttachConf)
    assert parse_conf(decode_document(text), AttachConf) == bare
    reported = decode_document(b'{"prevResult": {"ips": null}}')["prevResult"]
    assert reported == {"ips": None}, "what others reported is not ours to change"


def test_del_reads_a_configuration_that_add_refuses() -> None:
    conf = parse_conf({**BASE, "tenent": "acme", "runtimeConfig": {"mac": 5}}, NetworkConf)
    assert conf.name == "cellwall"


def test_an_absent_list_of_attachments_is_not_an_empty_one() -> None:
    assert parse_conf(BASE, CollectConf).valid is None
    assert parse_conf({**BASE, "cni.dev/valid-attachments": []}, CollectConf).valid == ()


def test_the_whole_configuration_is_typed() -> None:
    text = b"""{"cniVersion": "1.0.0", "name": "n", "type": "cellwall-cni", "root": "/r", "tenant": "acme",
        "subnets": ["10.1.0.0/16"], "gateways": ["10.1.0.254"], "dns": {"search": ["a.test"]},
        "capabilities": {"portMappings": true, "ips": true, "mac": true},
        "runtimeConfig": {"mac": "02:00:00:00:00:05", "ips": ["10.1.0.5/16"], "portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "TCP", "hostIP": ""}]}}"""
    conf = parse_conf(decode_document(text), AttachConf)
    assert conf.runtime_config.port_mappings[0].container_port == 8080
    assert conf.subnets == ("10.1.0.0/16",)
    assert msgspec.to_builtins(conf.dns) == {"search": ("a.test",)}
