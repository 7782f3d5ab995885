"""Events as lines for people, and as entries of systemd's journal. Every part of them is a name that was validated, a
number or words of ours. Pure."""

import msgspec

from cellwall.audit.events import Attempt, Event, Unrecorded

_WARNING, _NOTICE = "4", "5"
"""Priorities of syslog."""

_CAUSES = {
    "rate": "more than are told of one tenant a second",
    "queue": "faster than they could be read",
    "disk": "the event files could not be written",
}


def shown(event: Event) -> str:
    """One line."""
    when = event.time.replace("T", " ")
    if isinstance(event, Attempt):
        outcome = "denied" if event.judgement == "deny" else "would be denied"
        whose = f"{event.tenant or '-'} {event.container or '-'}"
        return f"{when} {whose} {event.direction:<3} {outcome}: {_packet(event)} ({event.layer}: {event.reason})"
    if isinstance(event, Unrecorded):
        missed = f"{event.count} attempts {whose_missed(event)}"
        return f"{when} {missed} were not recorded one by one: {_CAUSES[event.cause]}"
    return f"{when} recording began: nobody recorded what was tried while no daemon ran"


def whose_missed(event: Unrecorded) -> str:
    """Whose attempts were not recorded, as far as it is known."""
    if event.tenant and event.container:
        return f"of tenant {event.tenant}, container {event.container},"
    if event.tenant:
        return f"of tenant {event.tenant}"
    return f"of container {event.container}" if event.container else "of nobody known"


def _packet(event: Attempt) -> str:
    said = event.protocol or "frame"
    if event.icmp_type is not None:
        said += f" type {event.icmp_type} code {event.icmp_code}"
    if event.fragment:
        said += " fragment"
    if event.source:
        said += f" {_end(event.source, event.source_port)} -> {_end(event.destination, event.destination_port)}"
    return f"{said} from {event.mac}" if event.mac else said


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_said(name: str, value: object) -> bool:
    """Whether a field is written: none that is empty or false, or a policy version of 0, which is none. A type, a code
    or a port may be 0."""
    return value not in ("", None) and value is not False and not (name == "generation" and value == 0)


def journal_entry(event: Event) -> dict[str, str]:
    """The fields of an entry of systemd's journal: what a line for people says, and each field by its name."""
    fields = msgspec.structs.asdict(event)
    said = {f"CELLWALL_{name.upper()}": str(value) for name, value in fields.items() if _is_said(name, value)}
    priority = _NOTICE if isinstance(event, Attempt) else _WARNING
    return {"MESSAGE": shown(event), "PRIORITY": priority, "SYSLOG_IDENTIFIER": "cellwall", **said}
