"""What is counted on a node, read and put together: of each endpoint, of all. Changes nothing and takes no turn."""

import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from typing import Protocol

import msgspec

from cellwall.engine.backend import Laying
from cellwall.engine.site import Foundation, Site
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied, EndpointTraffic, Metered, RuleCount, Tracked, Traffic, TrafficReport

_MOST_FLOWS = 8192
"""Flows on a node up to which they are counted by endpoint: 3 µs each."""


class Meters(Protocol):
    """The kernel's figures, of the network namespace that they were opened in."""

    def traffic(self) -> dict[int, Traffic]:
        """What every link of the node has passed, by index, seen from the other end of the pair. One dump."""

    def traffic_of(self, indices: Sequence[int]) -> dict[int, Traffic]:
        """The same of these links; one that is not there is left out."""

    def rules(self) -> tuple[RuleCount, ...]:
        """What each rule of ours in nftables has counted that says why it denies. A dump for each of three tables,
        however many endpoints there are; nothing of a table that is missing."""

    def denied(self) -> Denied | None:
        """What rules denied of each endpoint; None where they do not count it so: in iptables, or without `audit`."""

    def denied_of(self, indices: Sequence[int], stems: Sequence[int]) -> Denied:
        """The same of these bridge ports and stems."""

    def classified(self, bridge: str) -> tuple[int, int] | None:
        """The index of the bridge, and how many packets its classifiers have dropped: unfinished checksums, and what no
        rule had marked. None where it has none."""

    def tracked(self) -> Tracked | None:
        """Connection tracking; None where the kernel has none."""

    def flows(self, most: int) -> Mapping[bytes, int] | None:
        """How many tracked flows there are from or to each address (packed); None where they are more than `most`."""


class Ledger(Protocol):
    """Who keeps figures beyond the links and rules that they are of. Told by who writes, in the middle of an operation:
    it reads of the site, and does no more."""

    def part(self, site: Site, endpoints: Sequence[Endpoint]) -> None:
        """These are closed: what their links have passed by now is all there will be. Called while the links are
        there; never fails."""

    def relaid(self, site: Site, laying: Laying) -> str:
        """`laying.lay`, with which counters begin anew: what rules have counted until then is read first."""


class NodeCount(msgspec.Struct, frozen=True):
    """`metered` are the attached endpoints. Of the addresses `leased` are in use, by sandboxes that stand ready too,
    `draining` were released and are not free yet, `capacity` is how many there are in all."""

    up: bool
    metered: tuple[Metered, ...]
    leased: int
    draining: int
    capacity: int


def node_count(site: Site) -> NodeCount:
    """What is on record of the node."""
    from cellwall.ipam import Pool

    journal = site.journal
    return NodeCount(
        up=journal.get("foundation") is not None,
        metered=journal.metered(),
        leased=len(journal.leased()),
        draining=len(journal.draining.addresses()),
        capacity=Pool(site.settings.network).capacity,
    )


def unnoted_notes(site: Site, found: Foundation | None) -> tuple[str, ...]:
    """A line where connections have begun again that no bound counts; of a wall in nftables, since it was laid."""
    if found is None or found.backend != "nftables":
        return ()
    from cellwall.compile.bounds import UNNOTED  # here and not above: most who count have no wall to compile

    number = sum(one.packets for one in site.meters().rules() if one.reason == UNNOTED)
    if not number:
        return ()
    return (
        f"{number} SYNs in connections that have ended could not be noted: what is open by an answer is not counted",
    )


def traffic_report(site: Site) -> TrafficReport:
    """The figures of all attached endpoints. What was detached between two of its reads is left out."""
    meters = site.meters()
    passed, at = meters.traffic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    flows, denied = meters.flows(_MOST_FLOWS), meters.denied()
    return TrafficReport(
        at,
        tuple(
            EndpointTraffic(
                one.key,
                one.tenant,
                passed[one.host_index],
                _flows_of(one, flows),
                None if denied is None else denied.of(one.host_index, one.stems),
            )
            for one in site.journal.metered()
            if one.host_index in passed
        ),
    )


def _flows_of(one: Metered, flows: Mapping[bytes, int] | None) -> int | None:
    if flows is None:
        return None
    six = IPv6Address(one.address6).packed if one.address6 and flows else b""
    return flows.get(one.address4.to_bytes(4, "big"), 0) + flows.get(six, 0)
