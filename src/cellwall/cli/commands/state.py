"""status, reconcile: whether the kernel is as desired, and making it so."""

from cellwall.cli import exits
from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.render import facts


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    status = add_command(
        commands,
        "status",
        "compare the kernel with what is desired",
        description="Compare the kernel with what is desired. Changes nothing; exit status 10 where they differ.",
    )
    status.set_defaults(act=_status)
    reconcile = add_command(
        commands,
        "reconcile",
        "repair what differs, and what a killed process left behind",
        description="Repair what differs from what is desired, and finish or undo what a killed process left behind.",
    )
    reconcile.set_defaults(act=_reconcile)


def _status(invocation: Invocation) -> Outcome:
    with invocation.wall_to_look() as wall:
        found = wall.status()
    rows = [
        ("state", "up" if found.up else "down"),
        *([("held by", found.mechanism)] if found.up else []),
        ("sandboxes", str(found.endpoints)),
        ("draining", str(found.pending)),
        ("ready", str(found.ready)),
        *(("drift", line) for line in found.drift or ("none",)),
        *(("note", line) for line in found.notes),
    ]
    document = {
        "up": found.up,
        "mechanism": found.mechanism,
        "endpoints": found.endpoints,
        "draining": found.pending,
        "ready": found.ready,
        "drift": found.drift,
        "warnings": found.warnings,
        "notes": found.notes,
    }
    status = exits.FINDING if found.drift else exits.DONE
    return Outcome(document, facts(rows), warnings=found.warnings, status=status)


def _reconcile(invocation: Invocation) -> Outcome:
    with invocation.wall() as wall:
        repaired = wall.reconcile().repaired
    text = facts(("repaired", line) for line in repaired) or "nothing to repair"
    return Outcome({"repaired": repaired}, text)
