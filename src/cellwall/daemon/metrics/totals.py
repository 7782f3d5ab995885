"""The totals on disk, so that they go on where a daemon before this one left them, killed ones too.

Links and rules outlive a daemon, and count on meanwhile. With what each had shown last on record, the next daemon adds
what came since, and a total neither begins anew nor counts anything twice. Of one boot: with it links and rules end.
"""

import logging
import os

import msgspec

from cellwall.daemon.metrics.odometer import Memory

_log = logging.getLogger("cellwall.daemon")


_FORM = 3
"""Another number with every change of what figures there are, or what they are of."""


class Totals(msgspec.Struct, frozen=True):
    """What odometers know. `boot` and `form` are filled in where it is written."""

    traffic: Memory = Memory()
    denied: Memory = Memory()
    denied_of: Memory = Memory()
    classified: Memory = Memory()
    boot: str = ""
    form: int = 0


class TotalsFile:
    """The file at `path`, of the boot with that id."""

    def __init__(self, path: str, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._failed = False

    def read(self) -> Totals:
        """What is on record of this boot; nothing where there is none, or none that this version can read."""
        try:
            with open(self._path, "rb") as file:
                found = msgspec.msgpack.decode(file.read(), type=Totals)
        except FileNotFoundError:
            return Totals()
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("totals begin anew: %s: %s", self._path, error)
            return Totals()
        return found if (found.boot, found.form) == (self._boot, _FORM) else Totals()

    def write(self, totals: Totals) -> None:
        """Put them on record, whole or not at all. Where that cannot be done it is said once, and they end with the
        daemon."""
        draft = f"{self._path}.draft"
        try:
            with open(draft, "wb", opener=_private) as file:
                file.write(msgspec.msgpack.encode(msgspec.structs.replace(totals, boot=self._boot, form=_FORM)))
            os.replace(draft, self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("totals are not kept: %s", error)
            self._failed = True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
