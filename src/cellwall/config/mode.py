"""Who writes on this node by now: on record from before a daemon answers until it has ended in order.

The configuration says who should. A front end that went by it alone would write beside the daemon, or wait for one that
is not there, whenever somebody edits the file; so the record comes first. It survives the daemon's death: what comes
next waits for the restart. Whether anybody answers at the socket decides nothing.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec

from cellwall.config.paths import Paths
from cellwall.errors import InvalidSpec

if TYPE_CHECKING:
    from cellwall.model.grants import Grant

Mode = Literal["inprocess", "daemon"]

_DAEMON = b"daemon"


class Serving(msgspec.Struct, frozen=True):
    """Who writes, as an operator configures it: no part of the wall, and never among the settings in force.

    `mode`: `inprocess`, every front end for itself, in turns under the writer lock; or `daemon`, `cellwall serve`
    alone, whom the front ends ask. `group`: who may connect to it, "" root alone; `allow`: what groups may ask for.
    `files`: how many files of events it keeps, of `file_size` MiB; `journal`: whether it tells systemd's journal, too.
    `metrics`: where its metrics are told over TCP (`model.scraped`), "" nowhere;
    `metrics_tenants`: how many tenants its metrics tell apart. `busy_poll`: for how many microseconds after an answer
    it looks for the next call before it sleeps."""

    mode: Mode = "inprocess"
    group: str = ""
    allow: "tuple[Grant, ...]" = ()
    files: int = 8
    file_size: int = 16
    journal: bool = False
    pool_size: int = 0
    pool_burst: int = 0
    metrics: str = ""
    metrics_tenants: int = 100
    busy_poll: int = 500


def recorded_mode(paths: Paths) -> Mode | None:
    """The mode on record; None where there is none. InvalidSpec for a record that this version does not know.

    Who may not read the record is not root, and gets nothing done in process: for these, a daemon that has a socket is
    the one who writes."""
    path = mode_record(paths)
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError as error:
        raise InvalidSpec("node.mode", path, "is a directory, and no record") from error
    except PermissionError:
        return "daemon" if os.path.lexists(paths.socket) else None
    if text == _DAEMON:
        return "daemon"
    raise InvalidSpec("node.mode", text.decode(errors="replace"), f"is on record in {path}, and not known here")


def record_daemon(paths: Paths) -> None:
    """Put on record that a daemon writes, whole or not at all. Idempotent; the run directory must exist."""
    path = mode_record(paths)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "wb") as file:
        file.write(_DAEMON)
    try:
        os.rename(draft, path)
    except IsADirectoryError as error:
        os.unlink(draft)
        raise InvalidSpec("node.mode", path, "is a directory, and no record") from error


def drop_mode_record(paths: Paths) -> None:
    """Leave it to the configuration again. Idempotent. Only for who holds the writer lock: a daemon that lives is not
    to be written beside."""
    with suppress(FileNotFoundError):
        os.unlink(mode_record(paths))


def mode_record(paths: Paths) -> str:
    """Where the record is. Exactly `daemon` in it, and a front end needs nothing of this package to go by it."""
    return paths.in_run("mode")
