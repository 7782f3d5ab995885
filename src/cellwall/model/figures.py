"""What is counted of endpoints and rules: figures as the kernel has them, and whose they are. No I/O."""

from typing import Literal

import msgspec

from cellwall.model.endpoint import EndpointKey


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """What a sandbox has sent and received by one interface since that was made.

    Bytes are of whole frames, their 14 of Ethernet included. Packets are counted as the kernel hands them on, where a
    large segment that a card would yet cut is one. Sent is what it tried to send, also what the wall denied; received
    is what came to it.
    """

    sent_bytes: int = 0
    sent_packets: int = 0
    received_bytes: int = 0
    received_packets: int = 0


class Metered(msgspec.Struct, frozen=True, gc=False):
    """An attached endpoint as far as figures are about it; `host_index` is of its bridge port. Addresses are as they
    are on record: a number, and text, empty where it has none. `exposures`: how many ports or ranges are published;
    `stems`: what its policy versions share, former ones too (`model.versions`)."""

    key: EndpointKey
    tenant: str
    host_index: int
    address4: int
    address6: str
    exposures: int
    stems: tuple[int, ...]


RuleOutcome = Literal["dropped", "rejected", "passed"]
"""What a rule that counts does with a packet; `passed`: it would be denied by what is only watched."""


class RuleCount(msgspec.Struct, frozen=True, gc=False):
    """What one rule has counted since it was laid. `rule` is the same for as long as the rule stands; `reason` is the
    clause's own words."""

    rule: str
    reason: str
    outcome: RuleOutcome
    packets: int
    bytes: int


class Denied(msgspec.Struct, frozen=True):
    """Packets that rules denied, by whose they were: frames by bridge port, packets that endpoints sent and that were
    sent to them by the stem of their policy versions. `addresses`: both by address, where rules know neither, for as
    long as there are such rules, whoever has it."""

    ports: dict[int, int]
    sent: dict[int, int]
    received: dict[int, int]
    addresses: dict[str, int] | None = None

    def of(self, host_index: int, stems: tuple[int, ...]) -> int:
        """All of one endpoint."""
        total = self.ports.get(host_index, 0)
        for stem in stems:
            total += self.sent.get(stem, 0) + self.received.get(stem, 0)
        return total


class Tracked(msgspec.Struct, frozen=True):
    """How many flows the node's connection tracking has, and how many it can have."""

    entries: int
    limit: int


class EndpointTraffic(msgspec.Struct, frozen=True):
    """The figures of one endpoint. `connections`: flows from or to it that are tracked; None where there are too many
    on the node to be told apart. `denied`: packets that were denied, None where no rule counts them by endpoint."""

    key: EndpointKey
    tenant: str
    traffic: Traffic
    connections: int | None = None
    denied: int | None = None


class TrafficReport(msgspec.Struct, frozen=True):
    """The figures of all endpoints at one moment: `at` is in seconds, of the clock that starts with the machine."""

    at: float
    endpoints: tuple[EndpointTraffic, ...]
