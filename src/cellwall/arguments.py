"""How every program of this package refuses a command line: as it refuses everything else that is wrong."""

import argparse
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from cellwall.errors import InvalidSpec


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are InvalidSpec, so that they are said like every other error: in one line, and
    where a document is wanted in one."""

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]  # one of typeshed's overloads, which argparse itself calls
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """argparse's, which has an option that there is not said before anything that is missing beside it."""
        self._given = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = self._unknown() if "required" in message else []
        if unknown:
            message = f"unrecognized arguments: {' '.join(unknown)}"
        safe = message.encode("unicode_escape").decode("ascii")  # an argument may hold a newline
        raise InvalidSpec("usage", self.prog, safe)

    def _unknown(self) -> list[str]:
        """The options given that there are not: argparse would leave them for its end, which it does not come to."""
        known = self._option_string_actions
        options = [
            text for text in takewhile(lambda text: text != "--", self._given) if text[:1] == "-" and text != "-"
        ]
        return [text for text in options if text.partition("=")[0] not in known and text[:2] not in known]
