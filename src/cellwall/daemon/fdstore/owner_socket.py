"""The socket that owns our tables, through the daemon's death: a duplicate of it stays with the service manager.

While any descriptor of it is open the kernel takes no change of our tables from anybody else. The next daemon is given
the duplicate, and goes on as the same owner.
"""

import logging
import os

from cellwall.adapters.service_manager import ServiceManager
from cellwall.api import Wall
from cellwall.errors import CellwallError

_log = logging.getLogger("cellwall.daemon")
NAME = "rules"


class OwnerSocket:
    """The owner of this daemon's tables, and its place in the service manager's store."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._left = [given.fd for given in manager.given if given.name == NAME]
        self._refusal = ""
        self.owned = False
        self._doubted = False

    def own(self, wall: Wall) -> None:
        """Have the wall own its tables, by the socket of the run before where that was kept. Where they cannot be
        owned, the wall's status says why."""
        taken = self._left and self._own_by(wall, self._left.pop())
        while self._left:
            os.close(self._left.pop())
        if not taken:
            self._own_anew(wall)
        self.owned = not self._refusal

    def own_again(self, wall: Wall) -> None:
        """What could not be owned may be by now: nft was missing amid an upgrade, or another owner has ended. What
        anybody had taken out until then is repaired before anything is compared."""
        if self._refusal:
            self._own_anew(wall)
            self.owned = self._doubted = not self._refusal
        if self._doubted:
            wall.repair()
            self._doubted = False

    def leave(self) -> None:
        """From the end of this process on the tables are everybody's to write."""
        self._manager.forget(NAME)

    def _own_anew(self, wall: Wall) -> None:
        before, self._refusal = self._refusal, wall.own()
        if not self._refusal:
            self._manager.keep(NAME, wall.owning_descriptor)
        elif self._refusal != before:
            _log.warning("no flush of rules passes our tables over: %s", self._refusal)

    def _own_by(self, wall: Wall, descriptor: int) -> bool:
        """Go on with a socket that was kept; one that is of no use is let go."""
        try:
            return not wall.own(descriptor)
        except CellwallError as error:
            _log.warning("the socket that was kept owns nothing: %s", error)
            return False
