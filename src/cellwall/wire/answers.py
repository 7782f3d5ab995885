"""What calls are answered with beside the documents: an object for each, so that a later version may say more. Pure."""

import msgspec

from cellwall.audit.events import Event
from cellwall.wire.documents import EndpointDocument
from cellwall.wire.policies import PolicyAnswer


class VersionAnswer(msgspec.Struct, frozen=True):
    """`version` of the program, `api` the number in every path."""

    version: str
    api: int


class EndpointAnswer(msgspec.Struct, frozen=True):
    """One endpoint."""

    endpoint: EndpointDocument


class EndpointsAnswer(msgspec.Struct, frozen=True):
    """Endpoints; of a batch in the order of its entries."""

    endpoints: tuple[EndpointDocument, ...]


class DetachedAnswer(msgspec.Struct, frozen=True):
    """Whether there was one."""

    detached: bool


class DetachedManyAnswer(msgspec.Struct, frozen=True):
    """How many there were."""

    detached: int


class DownAnswer(msgspec.Struct, frozen=True):
    """The node has no wall any more."""

    up: bool = False


class DnsAnswer(msgspec.Struct, frozen=True):
    """The resolvers that sandboxes are told."""

    dns: tuple[str, ...]


class FindingsAnswer(msgspec.Struct, frozen=True):
    """What is wrong with an endpoint, a line each."""

    findings: tuple[str, ...]


class LogAnswer(msgspec.Struct, frozen=True):
    """Events, in the order of their recording. `more`: there are, or may be, earlier ones: `until` the time `reached`
    asks for them. `unreadable`: lines of the event files that were none."""

    events: tuple[Event, ...]
    more: bool
    unreadable: int
    reached: str = ""


class PoliciesAnswer(msgspec.Struct, frozen=True):
    """The policies of tenants, by tenant."""

    policies: dict[str, PolicyAnswer]


class ReservationDocument(msgspec.Struct, frozen=True):
    """Host ports that are kept for a container. `tenant` empty: one that is no tenant's. `seconds`: how long they
    go on waiting for it, where it is not attached."""

    container: str
    tenant: str
    ports: tuple[int, ...]
    seconds: float


class ReservationAnswer(msgspec.Struct, frozen=True):
    """What is kept for one container."""

    reservation: ReservationDocument


class ReservationsAnswer(msgspec.Struct, frozen=True):
    """What is kept, by container."""

    reservations: tuple[ReservationDocument, ...]


class ReleasedAnswer(msgspec.Struct, frozen=True):
    """How many ports were given back."""

    released: int


class EndpointTraffic(msgspec.Struct, frozen=True):
    """What one endpoint has passed since it was attached. Bytes are of whole frames, 14 of Ethernet included; `sent` is
    what it tried to send, denied packets too. `connections`: its tracked flows, null where the node has too many to
    tell them apart; `denied`: packets that were denied, null where no rule counts them by endpoint."""

    container: str
    interface: str
    tenant: str
    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int
    connections: int | None
    denied: int | None


class TrafficAnswer(msgspec.Struct, frozen=True):
    """The figures of all endpoints at one moment: `at` is in seconds since the machine started."""

    at: float
    endpoints: tuple[EndpointTraffic, ...]


class RemovedAnswer(msgspec.Struct, frozen=True):
    """Whether there was one."""

    removed: bool
