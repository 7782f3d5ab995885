"""Which attachments this node's CNI calls made, and for which network.

Owns: one small file per attachment in the run directory, `<container>/<interface>.<stage>` with the network's name in
it, written before the attach ("pending": nobody was told) and renamed once the result is out ("delivered"). It answers
two questions that the wall's own state cannot: whether a second ADD is a runtime's mistake (the specification wants an
error) or the repetition of one that was killed half way (it must be taken up), and which attachments GC of a network
may remove (never one of another network, or one made by hand).
Refuses: being a second source of truth. A record without an endpoint means nothing and is dropped on sight.

Calls for one container never overlap: the specification forbids it to runtimes. Ids and interface names are parsed
before they come here and their grammars have no separator, so they are file names as they stand.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from cellwall.model.endpoint import EndpointKey

Stage = Literal["absent", "pending", "delivered"]


class Ledger:
    """The records under `directory`, which is made when first needed."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def stage(self, key: EndpointKey) -> Stage:
        """How far an ADD of this attachment came."""
        if os.path.exists(self._path(key, "delivered")):
            return "delivered"
        return "pending" if os.path.exists(self._path(key, "pending")) else "absent"

    def begin(self, key: EndpointKey, network: str) -> None:
        """Note that an ADD is under way. Atomic: a reader sees no record or a whole one."""
        path = self._path(key, "pending")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{path}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, network.encode())
        finally:
            os.close(descriptor)
        os.rename(draft, path)
        with suppress(FileNotFoundError):
            os.unlink(self._path(key, "delivered"))

    def deliver(self, key: EndpointKey) -> None:
        """Note that the runtime has the result."""
        with suppress(FileNotFoundError):
            os.rename(self._path(key, "pending"), self._path(key, "delivered"))

    def drop(self, key: EndpointKey) -> None:
        """Forget an attachment; tolerates absence."""
        with suppress(FileNotFoundError):
            for name in os.listdir(os.path.join(self._directory, key.container_id)):
                stem, _, last = name.rpartition(".")
                # the second form is the draft of a killed `begin`
                if stem == key.ifname or (stem == f"{key.ifname}.pending" and last.isdigit()):
                    os.unlink(os.path.join(self._directory, key.container_id, name))
        with suppress(OSError):  # not empty: the container has another interface
            os.rmdir(os.path.join(self._directory, key.container_id))

    def keys(self, network: str) -> Iterator[EndpointKey]:
        """The attachments of one CNI network."""
        for container_id in _names(self._directory):
            for name in _names(os.path.join(self._directory, container_id)):
                ifname, _, stage = name.rpartition(".")
                if stage in ("pending", "delivered") and self._network(container_id, name) == network:
                    yield EndpointKey(container_id, ifname)

    def _network(self, container_id: str, name: str) -> str:
        try:
            with open(os.path.join(self._directory, container_id, name), encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _path(self, key: EndpointKey, stage: Stage) -> str:
        return os.path.join(self._directory, key.container_id, f"{key.ifname}.{stage}")


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
