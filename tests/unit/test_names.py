"""Names of links: as long as the kernel takes, made of nothing that needs quoting, one per attachment."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import EndpointKey
from cellwall.model.identifiers import parse_container_id, parse_link_name
from cellwall.names import host_link, namespace_file

IFNAMSIZ = 16  # linux/if.h, its zero included
IDS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,252}", fullmatch=True)
KEYS = st.builds(EndpointKey, IDS, st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.\-]{0,14}", fullmatch=True))


@given(container=IDS, attempt=st.integers(0, 9))
def test_name_fits_the_kernel_and_needs_no_quoting(container: str, attempt: int) -> None:
    name = host_link("b9h", EndpointKey(container), attempt)
    assert len(name) == IFNAMSIZ - 1
    assert name.startswith("b9h")
    assert parse_link_name(name) == name


def test_name_is_the_same_in_every_process_and_release() -> None:
    """A literal: links of a running node are found again by it after an upgrade."""
    assert host_link("b9h", EndpointKey("web")) == "b9h67bc6e4663bc"


def test_ids_that_share_any_number_of_characters_get_names_of_their_own() -> None:
    """Five hexadecimal characters of an id collide at about 1,200 containers, a common prefix at once."""
    ids = [f"{'c' * 248}{number:05}" for number in range(20_000)]
    ids += [f"{number:05}{'c' * 248}" for number in range(20_000)]
    names = {host_link("b9h", EndpointKey(container)) for container in ids}
    assert len(names) == len(ids)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EndpointKey("a", "eth0"), EndpointKey("a", "eth1")),
        (EndpointKey("aeth0", "x"), EndpointKey("a", "eth0x")),
        (EndpointKey("a", "b"), EndpointKey("ab", "")),
    ],
)
def test_container_and_interface_both_count(one: EndpointKey, other: EndpointKey) -> None:
    assert host_link("b9h", one) != host_link("b9h", other)


@given(one=KEYS, other=KEYS)
@example(one=EndpointKey("web", "eth1"), other=EndpointKey("web.eth1"))
@example(one=EndpointKey("c" * 252 + "a"), other=EndpointKey("c" * 252 + "b"))
def test_no_two_endpoints_have_one_namespace_file(one: EndpointKey, other: EndpointKey) -> None:
    assert (namespace_file(one) == namespace_file(other)) == (one == other)
    assert len(namespace_file(one)) < 256
    assert "/" not in namespace_file(one)


@given(key=KEYS)
def test_nobody_can_choose_the_id_that_is_anothers_namespace_file(key: EndpointKey) -> None:
    name = namespace_file(key)
    if name != key.container_id:
        with pytest.raises(InvalidSpec):
            parse_container_id(name)


def test_another_attempt_is_another_name() -> None:
    key = EndpointKey("web")
    assert len({host_link("b9h", key, attempt) for attempt in range(100)}) == 100
