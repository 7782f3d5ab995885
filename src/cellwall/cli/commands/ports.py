"""reserve, release, reserved: host ports that are kept for a container before it publishes anything."""

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.render import table
from cellwall.errors import Conflict
from cellwall.model.identifiers import parse_container_id
from cellwall.model.reserved import DEFAULT_LEASE, Reservation, validate_reservation


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    reserve = add_command(
        commands,
        "reserve",
        "keep free host ports for a container, attached or not",
        description="Keep free host ports for a container, attached or not: no program of the node takes them, and no\n"
        "other container may publish them. Those that it has are among them. The daemon holds them; a node without\n"
        "one has nobody who would, once this command has ended.",
    )
    reserve.add_argument("id", metavar="ID", help="container id")
    reserve.add_argument("--count", type=int, default=1, metavar="N", help="how many (1)")
    reserve.add_argument("--tenant", metavar="NAME", help="whose container it will be; default: nobody's")
    reserve.add_argument(
        "--seconds",
        type=float,
        default=DEFAULT_LEASE,
        metavar="S",
        help=f"how long they wait for it to be attached ({DEFAULT_LEASE:g})",
    )
    reserve.set_defaults(act=_reserve)
    release = add_command(commands, "release", "give back the host ports that are reserved for a container")
    release.add_argument("id", metavar="ID", help="container id")
    release.set_defaults(act=_release)
    add_command(commands, "reserved", "list the host ports that are reserved").set_defaults(act=_reserved)


def _reserve(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    validate_reservation(given.id, given.tenant, given.count, given.seconds)
    if not invocation.served():
        raise Conflict("reserve: no daemon writes on this node (node.mode), and what holds a port would end with this")
    with invocation.wall_in_force() as wall:
        made = wall.reserve_ports(given.id, given.count, tenant=given.tenant, seconds=given.seconds)
    return Outcome({"reservation": made}, " ".join(map(str, made.ports)))


def _release(invocation: Invocation) -> Outcome:
    container = parse_container_id(invocation.arguments.id)
    with invocation.wall_to_close() as wall:
        released = wall.release_ports(container)
    return Outcome({"released": released}, f"released {released}")


def _reserved(invocation: Invocation) -> Outcome:
    with invocation.wall_to_close() as wall:
        known = wall.reservations()
    return Outcome({"reservations": known}, _table(known))


def _table(known: tuple[Reservation, ...]) -> str:
    rows = [
        (one.container, one.tenant or "-", " ".join(map(str, one.ports)), f"{one.seconds:g}" if one.seconds else "-")
        for one in known
    ]
    return table(("CONTAINER", "TENANT", "PORTS", "SECONDS LEFT"), rows)
