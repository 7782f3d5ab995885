"""The environment of a call."""

import pytest

from cellwall.cni.codes import code_of
from cellwall.cni.invocation import parse_arguments, parse_invocation
from cellwall.errors import InvalidSpec

ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": "/run/netns/web", "CNI_IFNAME": "eth0"}


def refused(environ: dict[str, str]) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        parse_invocation(environ)
    assert code_of(caught.value) == 4
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("variable", "value", "shown"), [
    ("CNI_COMMAND", "", '""'), ("CNI_COMMAND", "add", '"add"'), ("CNI_COMMAND", "UPDATE", '"UPDATE"'),
    ("CNI_CONTAINERID", "", '""'), ("CNI_CONTAINERID", "a b", '"a b"'), ("CNI_CONTAINERID", "-a", '"-a"'),
    ("CNI_CONTAINERID", "a\nflush ruleset", '"a\\nflush ruleset"'), ("CNI_CONTAINERID", "web\n", '"web\\n"'),
    ("CNI_CONTAINERID", "../web", '"../web"'), ("CNI_CONTAINERID", "é", '"\\xe9"'),
    ("CNI_CONTAINERID", 'a"; drop', 'a"; drop'), ("CNI_CONTAINERID", "x" * 254, "xxx..."),
    ("CNI_IFNAME", "", '""'), ("CNI_IFNAME", "e" * 16, "eeee"), ("CNI_IFNAME", "eth/0", '"eth/0"'),
    ("CNI_IFNAME", "..", '".."'), ("CNI_IFNAME", "eth 0", '"eth 0"'), ("CNI_IFNAME", "eth0\n", '"eth0\\n"'),
    ("CNI_IFNAME", 'e";*', 'e";*'), ("CNI_IFNAME", "eth:0", '"eth:0"'), ("CNI_NETNS", "", '""'),
])  # fmt: skip
def test_a_bad_variable_is_named_with_its_value(variable: str, value: str, shown: str) -> None:
    error = refused({**ADD, variable: value})
    assert error.field == variable
    assert shown in str(error)


@pytest.mark.parametrize("variable", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_COMMAND"])
def test_a_missing_variable_is_named(variable: str) -> None:
    assert refused({name: value for name, value in ADD.items() if name != variable}).field == variable


def test_an_id_of_253_characters_is_an_id() -> None:
    assert parse_invocation({**ADD, "CNI_CONTAINERID": "x" * 253}).container_id == "x" * 253


def test_del_needs_no_namespace_and_ignores_arguments() -> None:
    call = parse_invocation({**ADD, "CNI_COMMAND": "DEL", "CNI_NETNS": "", "CNI_ARGS": "FOO=1"})
    assert (call.netns, call.arguments) == ("", {})
    del_without = {key: value for key, value in ADD.items() if key != "CNI_NETNS"} | {"CNI_COMMAND": "DEL"}
    assert parse_invocation(del_without).key.container_id == "web"


@pytest.mark.parametrize("command", ["STATUS", "GC", "VERSION"])
def test_verbs_without_a_container_need_nothing_else(command: str) -> None:
    assert parse_invocation({"CNI_COMMAND": command}).command == command


@pytest.mark.parametrize(("text", "field", "shown"), [
    ("FOO=1", "CNI_ARGS.FOO", '"1"'), ("IgnoreUnknown=0;FOO=bar", "CNI_ARGS.FOO", '"bar"'),
    ("IgnoreUnknown=maybe", "CNI_ARGS.IgnoreUnknown", '"maybe"'), ("IP", "CNI_ARGS", '"IP"'),
    ("=x", "CNI_ARGS", '"=x"'), ("FOO=a\nb", "CNI_ARGS.FOO", '"a\\nb"'),
    ("IP=192.168.0.9;IP=192.168.0.8", "CNI_ARGS.IP", '"192.168.0.8"'),
])  # fmt: skip
def test_an_unknown_argument_is_refused_unless_the_caller_says_otherwise(text: str, field: str, shown: str) -> None:
    error = refused({**ADD, "CNI_ARGS": text})
    assert error.field == field
    assert shown in str(error)


def test_arguments_have_a_bound_that_keeps_nobody_from_del() -> None:
    crowd = "IgnoreUnknown=1;FOO=" + "x" * 9000
    error = refused({**ADD, "CNI_ARGS": crowd})
    assert (error.field, str(error)) == ("CNI_ARGS", "CNI_ARGS: 9020: characters: at most 2048")
    assert parse_invocation({**ADD, "CNI_COMMAND": "DEL", "CNI_ARGS": crowd}).key.container_id == "web"


@pytest.mark.parametrize("switch", ["1", "true", "TRUE", "True"])
def test_ignore_unknown_keeps_what_is_known(switch: str) -> None:
    text = f"IgnoreUnknown={switch};FOO=1;IP=192.168.0.9;K8S_POD_NAMESPACE=acme;"
    assert parse_arguments(text) == {"IP": "192.168.0.9", "K8S_POD_NAMESPACE": "acme"}


def test_the_arguments_of_a_kubernetes_runtime_are_known() -> None:
    text = "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=d"
    assert len(parse_arguments(text)) == 4
