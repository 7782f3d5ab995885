"""What other programs read: every attribute that the schema requires, and numbers that it has."""

import msgspec
import pytest

from cellwall.audit.events import Attempt, Began, Event, Unrecorded
from cellwall.audit.ocsf import VERSION, ocsf_of

TIME = "2026-01-31T12:00:00.123456Z"
OUT = Attempt(
    time=TIME,
    judgement="deny",
    direction="out",
    layer="FWD",
    reason="the floor",
    tenant="acme",
    container="web",
    interface="eth0",
    generation=7,
    protocol="tcp",
    source="fd00:abcd::2",
    source_port=40000,
    destination="fd00::1",
    destination_port=80,
)
IN = msgspec.structs.replace(
    OUT,
    direction="in",
    judgement="watch",
    protocol="253",
    source="192.0.2.1",
    source_port=None,
    destination="192.168.0.2",
)
FRAME = Attempt(TIME, "deny", "out", "PIN", "no frame a sandbox may send", protocol="0x88cc", mac="02:00:00:00:00:01")
EVENTS: tuple[Event, ...] = (
    OUT,
    IN,
    FRAME,
    Unrecorded(TIME, 12, "rate", "acme"),
    Unrecorded(TIME, 3, "queue"),
    Began(TIME),
)

# Of the published schema 1.3.0: what each class and object requires, and of what it needs one at least.
REQUIRED = {
    0: {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"},
    4001: {
        *("activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"),
        *("dst_endpoint", "action_id"),
    },
    "metadata": {"version", "product"},
    "product": {"vendor_name"},
    "connection_info": {"direction_id"},
}
ONE_OF = {
    "product": {"name", "uid"},
    "firewall_rule": {"name", "uid"},
    "container": {"name", "uid"},
    "src_endpoint": {"ip", "uid", "name", "hostname", "instance_uid", "interface_uid", "interface_name"},
    "dst_endpoint": {"ip", "uid", "name", "hostname", "instance_uid", "interface_uid", "interface_name"},
}
NUMBERS = {
    "activity_id": {0, 1, 2, 3, 4, 5, 6, 7, 99},
    "action_id": {0, 1, 2, 99},
    "disposition_id": {*range(28), 99},
    "severity_id": {0, 1, 2, 3, 4, 5, 6, 99},
    "direction_id": {0, 1, 2, 3, 99},
    "protocol_ver_id": {0, 4, 6, 99},
}


def judge(name: object, value: object) -> None:
    if not isinstance(value, dict):
        assert name not in NUMBERS or value in NUMBERS[str(name)]
        return
    assert REQUIRED.get(name, set()) <= set(value), name  # type: ignore[call-overload]
    assert name not in ONE_OF or ONE_OF[str(name)] & set(value), name
    for part, inner in value.items():
        judge(part, inner)


@pytest.mark.parametrize("event", EVENTS)
def test_what_the_schema_requires_is_there(event: Event) -> None:
    document = ocsf_of(event, "0.1.0")
    judge(document["class_uid"], document)
    assert document["metadata"]["version"] == VERSION == "1.3.0"
    assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
    assert document["time"] == 1769860800123
    msgspec.json.encode(document)


@pytest.mark.parametrize(
    ("event", "category", "number", "severity"),
    [(OUT, 4, 4001, 2), (IN, 4, 4001, 1), (FRAME, 4, 4001, 2), *((event, 0, 0, 1) for event in EVENTS[3:])],
)
def test_a_denial_is_of_low_severity_and_the_rest_informs(
    event: Event, category: int, number: int, severity: int
) -> None:
    document = ocsf_of(event, "0.1.0")
    assert (document["category_uid"], document["class_uid"], document["severity_id"]) == (category, number, severity)
    profiles = ["security_control", "container"] if isinstance(event, Attempt) else None
    assert document["metadata"].get("profiles") == profiles


def test_an_attempt_of_a_container_is_a_refusal_from_it() -> None:
    document = ocsf_of(OUT, "0.1.0")
    assert document["src_endpoint"] == {
        "ip": "fd00:abcd::2",
        "port": 40000,
        "interface_name": "eth0",
        "container": {"uid": "web"},
    }
    assert document["dst_endpoint"] == {"ip": "fd00::1", "port": 80}
    assert document["connection_info"] == {
        "direction_id": 2,
        "protocol_name": "tcp",
        "protocol_num": 6,
        "protocol_ver_id": 6,
    }
    assert (document["activity_id"], document["action_id"], document["disposition_id"]) == (5, 2, 2)
    assert document["metadata"]["tenant_uid"] == "acme"


def test_what_is_only_watched_was_allowed_and_came_in() -> None:
    document = ocsf_of(IN, "0.1.0")
    assert (document["activity_id"], document["action_id"], document["disposition_id"]) == (6, 1, 17)
    assert document["dst_endpoint"]["container"] == {"uid": "web"}
    assert document["connection_info"]["direction_id"] == 1
    assert document["connection_info"]["protocol_num"] == 253


def test_a_frame_without_addresses_has_ends_all_the_same() -> None:
    document = ocsf_of(FRAME, "0.1.0")
    assert document["src_endpoint"] == {"mac": "02:00:00:00:00:01", "name": "unknown"}
    assert document["dst_endpoint"] == {"name": "unknown"}
    assert document["connection_info"] == {"direction_id": 2, "protocol_name": "0x88cc"}


def test_what_arp_claims_is_of_no_version_of_ip() -> None:
    claim = msgspec.structs.replace(FRAME, protocol="arp", source="192.168.0.1", destination="192.168.0.3")
    assert ocsf_of(claim, "0.1.0")["connection_info"] == {"direction_id": 2, "protocol_name": "arp"}
