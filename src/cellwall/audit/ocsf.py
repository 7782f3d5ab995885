"""Events as the Open Cybersecurity Schema Framework has them, version 1.3.0: what collectors of many vendors read.

An attempt is a Network Activity (class 4001) under the profiles `security_control` and `container`; what was not
recorded one by one is a Base Event that says how many. Numbers are those of the schema (https://schema.ocsf.io/1.3.0).
Its times are milliseconds, so the whole time is `metadata.original_time`. Pure.
"""

from datetime import datetime
from typing import Any

from cellwall.audit.events import Attempt, Event, Unrecorded
from cellwall.audit.shown import whose_missed
from cellwall.model.addresses import PROTOCOL_NUMBERS

VERSION = "1.3.0"

_NETWORK, _NETWORK_ACTIVITY = 4, 4001
_REFUSE, _TRAFFIC, _OTHER = 5, 6, 99
_ALLOWED, _DENIED = 1, 2
_BLOCKED, _LOGGED = 2, 17
_INFORMATIONAL, _LOW = 1, 2
_INBOUND, _OUTBOUND = 1, 2
_UNKNOWN = "unknown"


def ocsf_of(event: Event, program: str) -> dict[str, Any]:
    """The document of one event, ready for JSON. `program`: the version of cellwall that says it."""
    if isinstance(event, Attempt):
        return _network_activity(event, program)
    if isinstance(event, Unrecorded):
        message = f"{event.count} attempts {whose_missed(event)} were not recorded one by one ({event.cause})"
        return {**_base(event.time, event.tenant, program), "count": event.count, "message": message}
    return {**_base(event.time, "", program), "message": "recording began"}


def _network_activity(event: Attempt, program: str) -> dict[str, Any]:
    denied = event.judgement == "deny"
    activity = _REFUSE if denied else _TRAFFIC
    own, other = _end(event, own=True), _end(event, own=False)
    source, destination = (own, other) if event.direction == "out" else (other, own)
    return {
        **_common(event.time, event.tenant, program, profiles=["security_control", "container"]),
        "category_uid": _NETWORK,
        "class_uid": _NETWORK_ACTIVITY,
        "activity_id": activity,
        "type_uid": _NETWORK_ACTIVITY * 100 + activity,
        "severity_id": _LOW if denied else _INFORMATIONAL,
        "action_id": _DENIED if denied else _ALLOWED,
        "disposition_id": _BLOCKED if denied else _LOGGED,
        "message": event.reason,
        "firewall_rule": {"name": event.reason, "category": event.layer, "version": str(event.generation)},
        "connection_info": _connection(event),
        "src_endpoint": source,
        "dst_endpoint": destination,
    }


def _end(event: Attempt, *, own: bool) -> dict[str, Any]:
    """One end of the packet; `own`: the container's."""
    is_source = own == (event.direction == "out")
    address, port = (event.source, event.source_port) if is_source else (event.destination, event.destination_port)
    end: dict[str, Any] = {"ip": address} if address else {}
    if port is not None:
        end["port"] = port
    if is_source and event.mac:
        end["mac"] = event.mac
    if own and event.container:
        end |= {"interface_name": event.interface, "container": {"uid": event.container}}
    return end if "ip" in end or "interface_name" in end else {**end, "name": _UNKNOWN}


def _connection(event: Attempt) -> dict[str, Any]:
    said: dict[str, Any] = {
        "direction_id": _OUTBOUND if event.direction == "out" else _INBOUND,
        "protocol_name": event.protocol,
    }
    number = PROTOCOL_NUMBERS.get(event.protocol)
    if number is None and event.protocol.isdigit():
        number = int(event.protocol)
    if number is not None:
        said["protocol_num"] = number
    if event.source and event.protocol != "arp":
        said["protocol_ver_id"] = 6 if ":" in event.source else 4
    return said


def _base(time: str, tenant: str, program: str) -> dict[str, Any]:
    return {
        **_common(time, tenant, program, profiles=[]),
        "category_uid": 0,
        "class_uid": 0,
        "activity_id": _OTHER,
        "type_uid": _OTHER,
        "severity_id": _INFORMATIONAL,
    }


def _common(time: str, tenant: str, program: str, *, profiles: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "version": VERSION,
        "product": {"name": "cellwall", "vendor_name": "cellwall", "version": program},
        "original_time": time,
    }
    if profiles:
        metadata["profiles"] = profiles
    if tenant:
        metadata["tenant_uid"] = tenant
    return {"time": round(datetime.fromisoformat(time).timestamp() * 1000), "metadata": metadata}
