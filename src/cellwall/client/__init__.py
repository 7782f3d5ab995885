"""Clients of a node's daemon: what `cellwall.api.Wall` offers, asked for over the daemon's socket.

    with Client.open() as node:
        web = node.attach("web", tenant="acme", expose=["8080:80"])

    async with AsyncClient.open() as node:
        web = await node.attach("web", tenant="acme", expose=["8080:80"])

The same verbs, arguments, values and errors. Owns: that a restart of the daemon is waited for, within bounds, and that
what was asked is answered by the next one. Refuses: any decision about the wall, and to start a daemon.

Whoever may connect may use them; what they may do is the daemon's to say. `Client` needs nothing but msgspec,
`AsyncClient` aiohttp.
"""

from typing import TYPE_CHECKING, Any

from cellwall.client.blocking import Client

if TYPE_CHECKING:
    from cellwall.client.asynchronous import AsyncClient

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """AsyncClient, once somebody asks for it: aiohttp takes longer to import than a call of `Client` takes."""
    if name != "AsyncClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cellwall.client.asynchronous import AsyncClient

    return AsyncClient
