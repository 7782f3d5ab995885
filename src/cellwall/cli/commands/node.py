"""up, down, uninstall: the node's own part of the wall."""

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.render import facts
from cellwall.errors import Conflict


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    up = add_command(
        commands,
        "up",
        "make the bridge and the rules, or repair them",
        description="Make the bridge and the rules, or repair them. Idempotent, fit for a boot unit; the first\n"
        "attach does the same.",
    )
    up.set_defaults(act=_up)
    down = add_command(commands, "down", "take bridge and rules away; refuses while sandboxes are attached")
    down.add_argument("--force", action="store_true", help="detach what is attached first")
    down.set_defaults(act=_down)
    uninstall = add_command(commands, "uninstall", "leave the node as it was before cellwall, kernel settings included")
    uninstall.add_argument("--force", action="store_true", help="detach what is attached first")
    uninstall.set_defaults(act=_uninstall)


def _up(invocation: Invocation) -> Outcome:
    with invocation.wall_to_bring_up() as wall:
        report = wall.up()
    resolvers = [str(address) for address in report.dns]
    rows = [
        ("state", "up, changed" if report.changed else "up, nothing to do"),
        ("held by", report.mechanism),
        ("egress", report.uplink),
        ("IPv6", "on" if report.ipv6 else "off"),
        ("resolvers", ", ".join(resolvers)),
    ]
    document = {
        "changed": report.changed,
        "mechanism": report.mechanism,
        "uplink": report.uplink,
        "ipv6": report.ipv6,
        "dns": resolvers,
        "warnings": report.warnings,
    }
    return Outcome(document, facts(rows))  # the warnings are logged where they arise


def _down(invocation: Invocation) -> Outcome:
    with invocation.wall_to_close() as wall:
        wall.down(force=invocation.arguments.force)
    return Outcome({"up": False}, "down")


def _uninstall(invocation: Invocation) -> Outcome:
    if invocation.served():
        from cellwall.api import take_back

        if not take_back(invocation.paths):
            raise Conflict("a daemon serves this node; end it before cellwall is uninstalled")
    with invocation.own_wall_to_close() as wall:
        wall.uninstall(force=invocation.arguments.force)
    return Outcome({"installed": False}, "uninstalled")
