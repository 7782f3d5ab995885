"""`engine.record.Owners`: where the lock files of `adapters.sandbox.owners` are, for an engine that rarely finds any.

Owns: the glance that spares an attach the import of all that locking takes.
"""

import os
from typing import TYPE_CHECKING

from cellwall.names import owner_file

if TYPE_CHECKING:
    from cellwall.adapters.sandbox.owners import Owner


class OwnerFiles:
    """Those under one run directory."""

    def __init__(self, run: str) -> None:
        self._run = run

    def abandoned(self, container_id: str = "") -> "tuple[Owner, ...]":
        """See `Owners.abandoned`."""
        # Not `exists`, which makes an error of each file that is not there: of nearly every one.
        if not os.access(f"{self._run}/owners/{owner_file(container_id) if container_id else ''}", os.F_OK):
            return ()
        from pathlib import Path

        from cellwall.adapters.sandbox.owners import abandoned

        return abandoned(Path(self._run), container_id)
