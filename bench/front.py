"""How a benchmark is called, and how its report is told: the same for each."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)


def parser_for(name: str, document: str | None, *, quick: str) -> ArgumentParser:
    """The arguments that every benchmark takes; its own are added to them. `document`: its docstring, of which the
    first line says what it is; `quick`: what is left of it with `--quick`."""
    parser = ArgumentParser(prog=f"bench {name}", description=(document or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{quick}: it works, its figures say little")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser


def tell(report: R, text: Callable[[R], str], *, as_json: bool) -> int:
    """Print a report; the exit status."""
    print(msgspec.json.format(msgspec.json.encode(report)).decode() if as_json else text(report))
    return 0
