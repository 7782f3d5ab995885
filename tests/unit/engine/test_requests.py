"""What is asked by values of another kind is refused as any other wrong value, and never an error of Python's."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from cellwall.engine.arguments import read_attach, read_requests
from cellwall.engine.requests import AttachRequest, validate_request
from cellwall.errors import InvalidSpec
from cellwall.model.settings import Settings


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("ip", {"address4": "192.168.0.9"}),
        ("ip", {"address4": 3232235529}),
        ("ip", {"address4": IPv6Address("fd00:abcd::9")}),
        ("ip", {"address6": "fd00:abcd::9"}),
        ("ip", {"address6": IPv4Address("192.168.0.9")}),
        ("mac", {"mac": "0a:58:c0:a8:00:09"}),
        ("expose", {"bindings": ("8080:80",)}),
        ("netns", {"netns": 5}),
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_refused_by_name(field: str, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        validate_request(AttachRequest("web", **asked), Settings())  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "asked"),
    [
        ("netns", 5, {"netns": 5}),
        ("netns", b"/run/netns/web", {"netns": b"/run/netns/web"}),
        ("expose", 80, {"expose": [80]}),
        ("expose", 80, {"expose": 80}),
        ("expose", "8080:80", {"expose": "8080:80"}),
    ],
    ids=str,
)
def test_an_argument_of_another_kind_is_refused_by_name(field: str, value: object, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        read_attach("web", **asked)  # type: ignore[arg-type]
    assert (refused.value.field, refused.value.value) == (field, value)


def test_what_is_no_request_is_refused_with_its_number() -> None:
    with pytest.raises(InvalidSpec, match="AttachRequest") as refused:
        read_requests([AttachRequest("web"), "a"])  # type: ignore[list-item]
    assert (refused.value.field, refused.value.value) == ("requests[1]", "a")
