"""Leases: against a pool so simple that it cannot be wrong, and the promises that a caller relies on."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cellwall.errors import Conflict, Exhausted, InvalidSpec
from cellwall.ipam import Pool
from cellwall.model.network import Network

SMALL = Network(
    subnet4=IPv4Network("10.9.0.0/28"), gateway4=IPv4Address("10.9.0.4"), gateway6=IPv6Address("fd00:abcd::9")
)
"""Thirteen hosts less one: the IPv6 gateway's number is not the IPv4 gateway's."""
USABLE = [address for address in SMALL.subnet4.hosts() if str(address) not in ("10.9.0.4", "10.9.0.9")]
ANY = st.sampled_from(list(SMALL.subnet4))


def numbers(addresses: Iterable[IPv4Address]) -> frozenset[int]:
    """Addresses as the journal has them."""
    return frozenset(map(int, addresses))


class Leases(RuleBasedStateMachine):
    """The pool and three plain sets do the same at every step. Released and drained addresses are what the next
    process reads."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(SMALL)
        self.free, self.leased, self.draining = set(USABLE), set[IPv4Address](), set[IPv4Address]()

    @precondition(lambda self: self.free)
    @rule()
    def lease(self) -> None:
        address = self.pool.lease()
        assert address in self.free
        self.free.remove(address)
        self.leased.add(address)

    @precondition(lambda self: not self.free)
    @rule()
    def exhausted(self) -> None:
        with pytest.raises(Exhausted, match="all"):
            self.pool.lease()

    @rule(address=ANY)
    def lease_address(self, address: IPv4Address) -> None:
        if address in self.free:
            assert self.pool.lease_address(address) == address
            self.free.remove(address)
            self.leased.add(address)
            return
        with pytest.raises((Conflict, InvalidSpec)) as refused:
            self.pool.lease_address(address)
        assert isinstance(refused.value, Conflict) is (address in self.leased | self.draining)

    @rule(address=ANY)
    def release(self, address: IPv4Address) -> None:
        if address in self.leased:
            self.leased.remove(address)
            self.draining.add(address)
            self.restored(remember_cursor=True)

    @rule(address=ANY)
    def drained(self, address: IPv4Address) -> None:
        if address in self.draining:
            self.draining.remove(address)
            self.free.add(address)
            self.restored(remember_cursor=True)

    @rule(remember_cursor=st.booleans())
    def restored(self, remember_cursor: bool) -> None:
        cursor = self.pool.cursor if remember_cursor else 1
        self.pool = Pool(SMALL, numbers(self.leased), numbers(self.draining), cursor)

    @invariant()
    def counts_agree(self) -> None:
        assert (self.pool.leased, self.pool.draining) == (len(self.leased), len(self.draining))
        assert self.pool.capacity == len(USABLE)


TestLeases = Leases.TestCase


def test_every_address_is_leased_once_and_in_order() -> None:
    pool = Pool(SMALL)
    assert [pool.lease() for _ in range(pool.capacity)] == USABLE
    with pytest.raises(Exhausted, match=r"10\.9\.0\.0/28.*12"):
        pool.lease()


def test_a_released_address_rests_until_all_others_were_used() -> None:
    pool = Pool(SMALL)
    first = pool.lease()
    pool = restored(pool, [])
    assert [pool.lease() for _ in range(pool.capacity)] == [*USABLE[1:], first]


def test_a_draining_address_is_nobodys() -> None:
    pool = Pool(SMALL)
    taken = [pool.lease() for _ in range(pool.capacity)]
    pool = restored(pool, taken[1:], taken[:1])
    with pytest.raises(Exhausted, match="1 more are draining"):
        pool.lease()
    with pytest.raises(Conflict, match="draining"):
        pool.lease_address(taken[0])
    pool = restored(pool, taken[1:])
    assert pool.lease() == taken[0]


def restored(pool: Pool, leased: list[IPv4Address], draining: Sequence[IPv4Address] = ()) -> Pool:
    """The pool as the next process finds it."""
    return Pool(SMALL, numbers(leased), numbers(draining), pool.cursor)


def test_addresses_come_round_in_turn_whatever_process_hands_them_out() -> None:
    """Also in the second round and later: the address that was free longest is the next."""
    pool, handed = Pool(SMALL), []
    for _ in range(3 * len(USABLE)):
        pool = restored(pool, [])
        handed.append(pool.lease())
    assert handed == USABLE * 3


def test_what_is_taken_is_passed_over_in_every_round() -> None:
    taken = [USABLE[0], USABLE[5], USABLE[-1]]
    pool, handed = Pool(SMALL, numbers(taken)), []
    for _ in range(2 * (len(USABLE) - 3)):
        pool = restored(pool, taken)
        handed.append(pool.lease())
    assert handed == [address for address in USABLE if address not in taken] * 2


@given(number=st.integers(1, 4094), subnet6=st.sampled_from(["fd00:abcd::/64", "fd00::/96", "2a00:1:2:3::/64"]))
def test_the_ipv6_host_part_is_the_ipv4_offset(number: int, subnet6: str) -> None:
    six = IPv6Network(subnet6)
    network = Network(subnet6=six, gateway6=six[1])
    network.validate()
    address = network.subnet4[number]
    assert network.address6(address) == six[number]
    assert int(network.address6(address)) - int(six.network_address) == int(address) - int(network.subnet4[0])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.9.1.1", "not inside"),
        ("10.9.0.0", "network or broadcast"),
        ("10.9.0.15", "network or broadcast"),
        ("10.9.0.4", "gateway"),
        ("10.9.0.9", "gateway"),
    ],
)
def test_an_address_that_can_never_be_leased_is_a_wrong_request(address: str, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason) as refused:
        Pool(SMALL).lease_address(IPv4Address(address))
    assert (refused.value.field, str(refused.value.value)) == ("ip", address)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (4, "is the gateway's address, or belongs to"),
        (9, "is the gateway's address, or belongs to"),
        (5, "is leased"),
        (6, "was just released and is draining"),
    ],
)
def test_what_is_refused_is_the_address_that_was_asked_for(number: int, reason: str) -> None:
    pool = restored(Pool(SMALL), [SMALL.subnet4[5]], [SMALL.subnet4[6]])
    for address in (SMALL.subnet4[number], SMALL.subnet6[number]):
        with pytest.raises((InvalidSpec, Conflict), match=rf"^ip: {address}: .*{reason}"):
            pool.lease_address(SMALL.subnet4[number], address)


@pytest.mark.parametrize(("four", "six"), list(product((1, 3, 14), (1, 3, 9, 14, 15, 16, 999))))
def test_no_endpoint_is_given_an_address_of_the_gateway(four: int, six: int) -> None:
    """The IPv6 host part follows from the IPv4 one, so the gateway's IPv6 address takes a number from the pool too."""
    network = msgspec.structs.replace(SMALL, gateway4=SMALL.subnet4[four], gateway6=SMALL.subnet6[six])
    network.validate()
    pool = Pool(network)
    leased = [pool.lease() for _ in range(pool.capacity)]
    with pytest.raises(Exhausted):
        pool.lease()
    assert network.gateway4 not in leased
    assert network.gateway6 not in [network.address6(address) for address in leased]
    assert len(set(leased)) == pool.capacity >= 12


def test_a_lease_costs_the_same_in_a_full_pool_as_in_an_empty_one() -> None:
    """Counted in addresses looked at and not in time: each lease looks at one, whatever is taken."""
    network = Network(subnet4=IPv4Network("10.0.0.0/12"), gateway4=IPv4Address("10.0.0.1"))
    pool = Pool(network)
    before = [pool.lease() for _ in range(2000)]
    for leased in ([], before):
        pool = Pool(network, numbers(leased), cursor=pool.cursor)
        looked = pool.cursor
        for _ in range(2000):
            pool.lease()
        assert pool.cursor - looked == 2000
