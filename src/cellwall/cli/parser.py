"""The grammar of the command line.

The global options stand before the command or after it. A command whose arguments belong to another program
(`demo`, `attack`, `cni install`) takes everything behind its name unread.
"""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from cellwall.arguments import Parser as Parser
from cellwall.cli.invocation import Invocation

COMMANDS = (
    "node",
    "watching",
    "serving",
    "attachments",
    "ports",
    "state",
    "figures",
    "policies",
    "records",
    "learning",
    "sandboxed",
    "configuration",
    "diagnosis",
    "others",
)
"""The modules of `cellwall.cli.commands`, in the order of the help text; each has `register`."""

_EPILOG = """\
exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unsupported host, 6 no privilege,
7 unavailable, 10 drift or finding, 11 not measured. With --json standard output is one JSON document,
also for an error.
"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse makes a formatter for every argument it is told of, and its own way to the
    width imports shutil with all its compressors: 7 ms of every command."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 100
        super().__init__(prog, width=max(columns - 2, 40))


Commands = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def add_command(commands: "Commands[Parser]", name: str, about: str, *, description: str = "") -> Parser:
    """A command that takes the global options too."""
    parser: Parser = commands.add_parser(
        name,
        help=about,
        description=description or about[:1].upper() + about[1:] + ".",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.set_defaults(refuse=parser.error)
    _add_globals(parser, late=True)
    return parser


def add_opaque_command(commands: "Commands[Parser]", name: str, about: str) -> Parser:
    """A command that reads its own arguments."""
    parser: Parser = commands.add_parser(name, help=about, add_help=False, allow_abbrev=False, formatter_class=Help)
    parser.set_defaults(opaque=True)
    return parser


def parse_arguments(argv: Sequence[str]) -> Invocation:
    """Parse a command line. Raises InvalidSpec for what it does not understand; --help exits."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.opaque:
        arguments.refuse(f"unrecognized arguments: {' '.join(rest)}")
    if "act" not in arguments and not arguments.opaque:  # asked after the above, which argparse would never come to
        parser.error("the following arguments are required: COMMAND")
    if arguments.opaque:  # these are ours wherever they stand: an error is said as it is wanted, whoever raised it
        arguments, rest = _forms_of_errors().parse_known_args(rest, arguments)
    return Invocation(arguments, tuple(rest))


def build_parser() -> Parser:
    """The whole grammar."""
    parser = Parser(
        prog="cellwall",
        description="The network layer of a host that runs untrusted containers.",
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.set_defaults(opaque=False, refuse=parser.error)
    _add_globals(parser, late=False)
    commands: Commands[Parser] = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=False, parser_class=Parser
    )
    for name in COMMANDS:
        import_module(f"cellwall.cli.commands.{name}").register(commands)
    return parser


def _forms_of_errors() -> Parser:
    """The global options that say in what form an error is told; everything else is left."""
    parser = Parser(prog="cellwall", add_help=False, allow_abbrev=False)
    _add_forms(parser, late=True)
    return parser


def _add_forms(group: argparse._ActionsContainer, *, late: bool) -> None:
    absent = argparse.SUPPRESS
    group.add_argument("--json", action="store_true", default=absent if late else False, help="print one JSON document")
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=absent if late else "text",
        help="form of the log on standard error",
    )


def _add_globals(parser: Parser, *, late: bool) -> None:
    """The options of every command. A command's own copy has no defaults, or it would undo what stood before it."""
    group = parser.add_argument_group("global options")
    absent = argparse.SUPPRESS

    def default(value: object) -> object:
        return absent if late else value

    group.add_argument(
        "--root", metavar="DIR", default=default(None), help="keep configuration, state and run files under DIR"
    )
    _add_forms(group, late=late)
    group.add_argument(
        "-v",
        dest="verbose_late" if late else "verbose",
        action="count",
        default=default(0),
        help="log more; twice: all",
    )
    group.add_argument(
        "--set",
        dest="set_late" if late else "set",
        metavar="KEY=VALUE",
        action="append",
        default=default([]),
        help="override one setting (see config show)",
    )
