"""How many policies of tenants are kept for who is not root."""

import pytest

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.daemon.quotas import MAX_OCTETS, MAX_POLICIES, MAX_PORTS, refuse_policies, refuse_ports
from cellwall.errors import Exhausted
from cellwall.model.endpoint import parse_binding
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
