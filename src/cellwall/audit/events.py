"""Events: what is recorded of an attempt, of attempts that could not be recorded one by one, and of a recorder's begin.

They are the lines of the event files, a JSON object each, and what `cellwall log --json` and `GET /v1/log` give. A
field keeps its name and meaning, new ones may be added; what is empty is left out:

    {"kind": "attempt", "time": "2026-01-31T12:00:00.000001Z", "judgement": "deny", "direction": "out", "layer": "FWD",
     "reason": "the floor", "tenant": "acme", "container": "web", "interface": "eth0", "generation": 1352167070,
     "protocol": "tcp", "source": "192.168.0.2", "source_port": 40000, "destination": "169.254.169.254",
     "destination_port": 80}

The values alone, for whoever speaks of them. Pure.
"""

from typing import Literal

import msgspec

DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000
"""Events of one answer over the socket: where nobody says how many, and at most."""

MAX_REASON = 128
"""Characters of the words that a reason is asked for by."""

Cause = Literal["rate", "queue", "disk"]
"""Why attempts were not recorded: there were too many of a tenant's, they came faster than they could be read, or the
file could not be written."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="attempt"):
    """One packet that was denied or, where `judgement` is `watch`, would have been. `direction`: `out` is what the
    container sent, `in` what was sent to it. `layer` and `reason` are the rule's own words. `generation`: the policy
    version that was in force for the container. Without a container it is known of none whose the packet was.

    `source`, `destination`, ports and `icmp` are what the packet says, which for `spoofed …` is the point; `mac`: of
    frames, the source that they name. `protocol`: by name, else its number, or an ethertype.
    """

    time: str
    judgement: Literal["deny", "watch"]
    direction: Literal["out", "in"]
    layer: str
    reason: str
    tenant: str = ""
    container: str = ""
    interface: str = ""
    generation: int = 0
    protocol: str = ""
    source: str = ""
    source_port: int | None = None
    destination: str = ""
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: bool = False
    mac: str = ""


class Unrecorded(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="unrecorded"):
    """So many attempts until then, since the last such event of theirs, were not recorded one by one. Without a tenant
    it is not known whose they were, or they were nobody's."""

    time: str
    count: int
    cause: Cause
    tenant: str = ""
    container: str = ""
    interface: str = ""


class Began(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="began"):
    """A daemon began to record: what was tried before, and after the last event ahead of this one, nobody did."""

    time: str
    program: str = ""


Event = Attempt | Unrecorded | Began


class Log(msgspec.Struct, frozen=True):
    """Events that were asked for, the latest, in the order of their recording. `more`: there are, or may be, earlier
    ones, from before the time `reached`. `unreadable`: lines that were none, such as one that a crash tore."""

    events: tuple[Event, ...]
    more: bool = False
    unreadable: int = 0
    reached: str = ""


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def line_of(event: Event) -> bytes:
    """The event as a line, its end included."""
    return _encoder.encode(event) + b"\n"


def event_of(line: bytes) -> Event:
    """The event of such a line; ValueError for what is none: a line that a crash tore, or another version's."""
    return _decoder.decode(line)
