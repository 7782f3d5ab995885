"""What one command gets and what it gives back: the parsed arguments in, an outcome to print out."""

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import msgspec

from cellwall.config import OTHERS_IN_FORCE, Loaded, Paths, judge_flags, load_settings, mode_of, paths_for
from cellwall.config.keys import SERVING_KEYS
from cellwall.errors import InvalidSpec, NotFound, printable
from cellwall.model.addresses import parse_address

if TYPE_CHECKING:
    from cellwall.api import Wall
    from cellwall.client import Client

Text = str | Callable[[], str]
_log = logging.getLogger("cellwall")
_SERVING = frozenset(key.name for key in SERVING_KEYS)


class Outcome(msgspec.Struct, frozen=True):
    """`document` is printed with --json, `text` without; `warnings` go to standard error either way.

    `status` is the exit status. A `document` of None prints nothing: the command has written its own output.
    """

    document: object = None
    text: str = ""
    warnings: tuple[str, ...] = ()
    status: int = 0


class Invocation:
    """One call of `cellwall`: its arguments, and the node they are about."""

    def __init__(self, arguments: argparse.Namespace, rest: tuple[str, ...] = ()) -> None:
        self.arguments = arguments
        self.rest = rest

    @property
    def paths(self) -> Paths:
        """The directories of the node. InvalidSpec where they cannot be any."""
        paths = paths_for(self.arguments.root)
        if os.path.exists(paths.base) and not os.path.isdir(paths.base):
            raise InvalidSpec("--root", paths.base, "is no directory")
        return paths

    def loaded(self) -> Loaded:
        """The settings and where they came from."""
        return load_settings(self.paths, overrides=self._overrides())

    def served(self) -> bool:
        """A daemon writes on the node: it is asked, and nothing is done in process."""
        return mode_of(self.paths, overrides=self._overrides()) == "daemon"

    def wall(self) -> "Wall | Client":
        """The node, to bring what is configured into force; the caller closes it. What is configured is the daemon's to
        read where one writes, here and below: who asks it may not be let to."""
        if self.served():
            return self._client()
        self.loaded()  # what is wrong with it is said before the engine is loaded
        return self._opened()

    def wall_to_bring_up(self) -> "Wall | Client":
        """The same for `up`, which takes a node back that a daemon has left without an orderly end, where no daemon is
        configured any more."""
        if self.served() and os.geteuid() == 0 and self.loaded().serving.mode == "inprocess":
            from cellwall.api import take_back

            take_back(self.paths)
        return self.wall()

    def wall_in_force(self) -> "Wall | Client":
        """The node, for what goes by the settings in force; a warning where others are configured."""
        if self.served():
            return self._client()
        configured = self.loaded().settings
        wall = self._opened()
        if wall.settings != configured:
            _log.warning(OTHERS_IN_FORCE)
        return wall

    def wall_to_close(self) -> "Wall | Client":
        """The node, for what closes or lists; a wrong configuration is a warning, a wrong flag is refused."""
        return self._client() if self.served() else self.own_wall_to_close()

    def wall_to_look(self) -> "Wall | Client":
        """The node, for what itself says of a configuration that it is wrong."""
        return self._client() if self.served() else self.own_wall()

    def own_wall(self) -> "Wall":
        """The opened wall of a node that no daemon writes on, as `wall_to_look`."""
        judge_flags(self._overrides())
        self._look_for_root()
        return self._opened(closing=True)

    def own_wall_to_close(self) -> "Wall":
        """The same as `wall_to_close`."""
        wall = self.own_wall()
        try:
            self.loaded()
        except InvalidSpec as error:
            _log.warning("%s", error)
        return wall

    def wall_to_read(self) -> "Wall":
        """The opened wall, beside whoever writes, for what only lists."""
        from cellwall.api import Wall

        self._look_for_root()
        return Wall.open(root=self.arguments.root, closing=True, reading=True)

    def wall_to_ask(self) -> "Wall | Client":
        """The node, for what only reads: by the daemon, or beside whoever writes."""
        return self._client() if self.served() else self.wall_to_read()

    def client(self) -> "Client":
        """The daemon, for what it alone knows."""
        return self._client()

    def _look_for_root(self) -> None:
        """A mistyped one has no sandboxes, and whoever looked there would make it. NotFound."""
        if not os.path.exists(self.paths.base):
            base = printable(self.paths.base, 4096)
            raise NotFound(f"--root: {base}: is not there, and so no node that was ever up")

    def _opened(self, *, closing: bool = False) -> "Wall":
        # The engine and its adapters take longer to import than any command that does not need them runs.
        from cellwall.api import Wall

        return Wall.open(root=self.arguments.root, settings=lambda: self.loaded().settings, closing=closing)

    def _client(self) -> "Client":
        judge_flags(self._overrides())
        for name, value in self._overrides().items():
            if name not in _SERVING:
                raise InvalidSpec(name, value, "does not reach the daemon, which goes by its own configuration (--set)")
        from cellwall.client import Client

        return Client.open(root=self.arguments.root)

    def _overrides(self) -> Mapping[str, str]:
        values = {}
        for text in [*self.arguments.set, *getattr(self.arguments, "set_late", [])]:
            name, equals, value = text.partition("=")
            if not equals:
                raise InvalidSpec("--set", text, "must be KEY=VALUE")
            values[name.strip()] = value
        return values


def parse_requested(texts: list[str]) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The requested addresses, at most one of each family."""
    four: IPv4Address | None = None
    six: IPv6Address | None = None
    for text in texts:
        address = parse_address(text, "--ip")
        taken = four if isinstance(address, IPv4Address) else six
        if taken is not None:
            raise InvalidSpec("--ip", text, f"is a second IPv{address.version} address; a sandbox has one")
        if isinstance(address, IPv4Address):
            four = address
        else:
            six = address
    return four, six
