"""A port that a proxy serves is the node's own in the family that it leads: no mechanism leads it anywhere."""

import msgspec
import pytest

from cellwall.compile.usage import usage_of
from cellwall.lower.nft.elements import endpoint_elements
from cellwall.lower.xt.endpoints import holdings
from cellwall.model.endpoint import parse_binding
from scene import endpoint
from unit.lower.test_policies_iptables import WALL

PUBLISHING = ("publish", "exposed")


@pytest.mark.parametrize(("word", "suffix"), [("tcp6to4", "4"), ("tcp4to6", "6")])
@pytest.mark.parametrize("clients", ["", "@203.0.113.0/24,2001:db8::/32"])
def test_only_the_other_family_is_led_to_the_endpoint(word: str, suffix: str, clients: str) -> None:
    web = endpoint("web", 2, f"8080:80/{word}{clients}")
    names = [name for _, name, _ in endpoint_elements(web) if name.startswith(PUBLISHING)]
    assert len(names) == 2 and all(suffix in name for name in names)
    assert {family for family, _, _ in usage_of(web.bindings).sources} <= {int(suffix)}
    bare, led = holdings([msgspec.structs.replace(web, bindings=())], WALL.pins), holdings([web], WALL.pins)
    added = set(led.rules) - set(bare.rules)
    assert added and {rule.version for rule in added} == {int(suffix)}


def test_at_a_bind_address_of_the_family_that_is_led_nothing_else_is_published() -> None:
    web = msgspec.structs.replace(endpoint("web", 2), bindings=(parse_binding("[2001:db8::1]:80:80/tcp6to4"),))
    assert not [name for _, name, _ in endpoint_elements(web) if name.startswith(PUBLISHING)]
