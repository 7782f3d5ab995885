"""Where a node keeps its configuration and its state, which describes one boot.

One root moves both, so that many nodes (each in its own network namespace) live on one machine. pathlib is for
whoever asks for a Path: the CNI plugin does without, and spares 1 ms a call.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class Paths(msgspec.Struct, frozen=True):
    """`run` does not survive a boot, and need not exist yet. `base` is absolute."""

    base: str

    @property
    def config_file(self) -> "Path":
        return _path(self.config_text)

    @property
    def config_text(self) -> str:
        """`config_file` as text."""
        return os.path.join(self.base, "etc/cellwall/cellwall.toml")

    @property
    def run(self) -> "Path":
        return _path(self.in_run())

    def in_run(self, *names: str) -> str:
        """A path below `run`, as text."""
        return os.path.join(self.base, "run/cellwall", *names)

    def in_state(self, *names: str) -> str:
        """A path below what outlives a boot, as text."""
        return os.path.join(self.base, "var/lib/cellwall", *names)

    def in_log(self, *names: str) -> str:
        """A path below where events are recorded, as text."""
        return os.path.join(self.base, "var/log/cellwall", *names)

    @property
    def socket_directory(self) -> str:
        """Where the daemon listens. Beside `run`, which is root's alone: a group may be let in here."""
        return os.path.join(self.base, "run/cellwall-api")

    @property
    def socket(self) -> str:
        """The daemon's socket."""
        return os.path.join(self.socket_directory, "cellwall.sock")


def paths_for(root: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Paths:
    """The paths under `root`, else under the environment's CELLWALL_ROOT, else the system's own."""
    base = os.fspath(root or environ.get("CELLWALL_ROOT") or "/")
    return Paths(os.path.join(os.getcwd(), base) if not os.path.isabs(base) else base)


def _path(text: str) -> "Path":
    from pathlib import Path

    return Path(text)
