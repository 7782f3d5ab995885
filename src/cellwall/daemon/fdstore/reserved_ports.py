"""Reserved ports through the daemon's death: duplicates of the sockets that hold them stay with the service manager.

Without one a port is nobody's while there is no daemon, and the next one holds it again before it answers anybody.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from cellwall.adapters.service_manager import ServiceManager
from cellwall.api import Wall
from cellwall.errors import CellwallError

_log = logging.getLogger("cellwall.daemon")
_PREFIX = "port-"


def hold_reserved(wall: Wall, manager: ServiceManager) -> None:
    """Have this daemon hold what is reserved on its node. A port that another program took stays on record, is said,
    and is taken back once it is free. What was kept of a reservation that is over is let go."""
    given = _given(manager)
    lost = wall.hold_reserved(given, partial(_keep, manager), partial(_forget, manager))
    for line in lost:
        _log.error("%s", line)
    for port in given.keys() - {port for one in wall.reservations() for port in one.ports}:
        _forget(manager, port)
        for fd in given[port]:
            with suppress(OSError):
                os.close(fd)


def give_back(wall: Wall) -> None:
    """Give back what waited for its container in vain. What fails is tried again, with the next look."""
    with suppress(CellwallError, OSError):
        for line in wall.expire_reserved():
            _log.info("%s", line)


def _given(manager: ServiceManager) -> dict[int, list[int]]:
    given: dict[int, list[int]] = {}
    for one in manager.given:
        number = one.name.removeprefix(_PREFIX)
        if number != one.name and number.isdigit():
            given.setdefault(int(number), []).append(one.fd)
    return given


def _keep(manager: ServiceManager, port: int, sockets: Sequence[int]) -> None:
    manager.keep(f"{_PREFIX}{port}", *sockets)


def _forget(manager: ServiceManager, port: int) -> None:
    manager.forget(f"{_PREFIX}{port}")
