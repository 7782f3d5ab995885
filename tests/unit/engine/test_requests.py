"""What is asked by values of another kind is refused as any other wrong value, and never an error of Python's."""

from ipaddress import IPv4Address, IPv6Address

import pytest

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
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_refused_by_name(field: str, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        validate_request(AttachRequest("web", **asked), Settings())  # type: ignore[arg-type]
    assert refused.value.field == field
