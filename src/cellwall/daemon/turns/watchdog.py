"""What keeps a service manager from starting the daemon anew: a writer that gets on."""

import asyncio

from cellwall.adapters.service_manager import ServiceManager
from cellwall.daemon.turns.writer import Writer


async def pet(manager: ServiceManager, writer: Writer) -> None:
    """Tell the watchdog of a writer that gets on, for as long as it does: one that hangs is for the service manager to
    start anew. Over at once where there is no watchdog."""
    patience = manager.watchdog
    while patience:
        if writer.alive and writer.busy_for() < patience:
            manager.tell(WATCHDOG=1)
        await asyncio.sleep(patience / 3)
