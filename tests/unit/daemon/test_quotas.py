"""How many policies of tenants are kept for who is not root."""

import pytest

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.quotas import (
    MAX_OCTETS,
    MAX_POLICIES,
    MAX_PORTS,
    MAX_PROXIED,
    MAX_RESERVED_OF_CALLER,
    not_yet_published,
    refuse_policies,
    refuse_ports,
    refuse_proxied,
    refuse_reservations,
)
from cellwall.engine.ports.auto_ports import named_ports
from cellwall.errors import Exhausted
from cellwall.model.endpoint import PortBinding, parse_binding
from cellwall.model.grants import parse_grant

MEMBER = Asker(
    Peer(uid=1000, groups=frozenset({7})), Authority([Granted(7, parse_grant("7 attach,policy ci-*", "daemon.allow"))])
)
FULL = {f"ci-{number}": 100 for number in range(MAX_POLICIES)}


def test_there_is_an_end_to_the_tenants_that_have_one() -> None:
    with pytest.raises(Exhausted, match=f"{MAX_POLICIES}"):
        refuse_policies(MEMBER, "ci-more", FULL)


def test_one_that_is_there_is_replaced_however_many_there_are() -> None:
    refuse_policies(MEMBER, "ci-0", FULL)


def test_those_of_other_groups_tenants_are_not_counted() -> None:
    refuse_policies(MEMBER, "ci-1", {f"web-{number}": 1 << 20 for number in range(10 * MAX_POLICIES)})


def test_there_is_an_end_to_what_they_have_on_record() -> None:
    with pytest.raises(Exhausted, match=f"{MAX_OCTETS}"):
        refuse_policies(MEMBER, "ci-more", {"ci-1": MAX_OCTETS // 2, "ci-2": MAX_OCTETS // 2})
    refuse_policies(MEMBER, "ci-2", {"ci-1": MAX_OCTETS // 2, "ci-2": MAX_OCTETS // 2})


def test_there_is_an_end_to_the_host_ports_of_their_tenants() -> None:
    asker = Asker(MEMBER.peer, Authority([Granted(7, parse_grant("7 attach,expose ci-*", "daemon.allow"))]))
    asked = [parse_binding("2000-2999:2000"), parse_binding("80:80/udp")]
    refuse_ports(asker, asked, {"ci-1": MAX_PORTS - 1001, "web": 60_000, "": 60_000})
    with pytest.raises(Exhausted, match=f"{MAX_PORTS - 1000} host ports and ask for 1001; {MAX_PORTS} may"):
        refuse_ports(asker, asked, {"ci-1": MAX_PORTS - 2000, "ci-2": 1000})


MEMBERS = [
    Asker(Peer(uid, frozenset({7})), Authority([Granted(7, parse_grant("7 attach,expose ci-*", "daemon.allow"))]))
    for uid in (1000, 1001)
]


@pytest.mark.parametrize("asker", MEMBERS, ids=["one of them", "another one"])
def test_there_is_an_end_to_what_members_of_one_group_have_together(asker: Asker) -> None:
    """Of whatever uid each is, and whoever of them asked before."""
    held = {"ci-1": 200, "ci-2": MAX_RESERVED_OF_CALLER - 203, "web": 500, "": 500}
    refuse_reservations(asker, 3, held)
    with pytest.raises(
        Exhausted, match=f"have {MAX_RESERVED_OF_CALLER - 3} ports reserved and ask for 4; {MAX_RESERVED_OF_CALLER} may"
    ):
        refuse_reservations(asker, 4, held)
    served = {"ci-1": 60, "ci-2": MAX_PROXIED - 61, "web": 64}
    refuse_proxied(asker, 1, served)
    with pytest.raises(Exhausted, match=f"have {MAX_PROXIED - 1} ports served by a proxy and ask for 2"):
        refuse_proxied(asker, 2, served)


def test_who_asks_for_nothing_more_is_not_refused_for_what_there_is() -> None:
    """A bound may have been another one, or a grant."""
    refuse_ports(MEMBERS[0], [], {"ci-1": 2 * MAX_PORTS})
    refuse_reservations(MEMBERS[0], 0, {"ci-1": 2 * MAX_RESERVED_OF_CALLER})
    refuse_proxied(MEMBERS[0], 0, {"ci-1": 2 * MAX_PROXIED})


@pytest.mark.parametrize(("asked", "former", "new"), [
    (["80:80"], ["80:80", "81:81"], []), (["80:80"], ["80:81"], ["80:80"]),
    (["2000-2999:2000", "80:80"], ["2000-2999:2000"], ["80:80"]),
    (["auto:80"], ["61000:80"], []), (["auto:80", "auto:80"], ["61000:80"], ["auto:80"]),
    (["auto:80"], ["8080:80"], ["auto:80"]), (["auto:80", "61000:80"], ["61000:80"], ["auto:80"]),
    (["auto:80/udp"], ["61000:80"], ["auto:80/udp"]),
])  # fmt: skip
def test_what_is_published_already_is_asked_for_once(asked: list[str], former: list[str], new: list[str]) -> None:
    def read(texts: list[str]) -> list[PortBinding]:
        return [parse_binding(text, auto=True) for text in texts]

    assert not_yet_published(read(asked), read(former), (61000, 65535)) == read(new)


@pytest.mark.parametrize(("asked", "named"), [
    (["auto:80"], set()), (["auto:80", "61000:81/udp"], {61000}),
    (["8000-8002:80", "8001-8004:80/udp", "8002:90", "9000:90"], {8000, 8001, 8002, 8003, 8004, 9000}),
])  # fmt: skip
def test_a_port_that_a_binding_names_is_given_to_none_that_would_have_any(asked: list[str], named: set[int]) -> None:
    assert named_ports(parse_binding(text, auto=True) for text in asked) == named
