"""How every program of this package refuses a command line: as it refuses everything else that is wrong."""

import argparse
from typing import NoReturn

from cellwall.errors import InvalidSpec


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are InvalidSpec, so that they are said like every other error: in one line, and
    where a document is wanted in one."""

    def error(self, message: str) -> NoReturn:
        safe = message.encode("unicode_escape").decode("ascii")  # an argument may hold a newline
        raise InvalidSpec("usage", self.prog, safe)
