"""systemd's journal by its own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): a datagram an entry.

What cannot be sent is counted by who sends, and nothing waits: the journal is told beside the record, and is not it.
"""

import socket
from collections.abc import Iterable, Mapping

PLACE = "/run/systemd/journal/socket"


class Journal:
    """A journal that listens at `place`. Where none does, nothing is told."""

    def __init__(self, place: str = PLACE) -> None:
        self._place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def tell(self, entries: Iterable[Mapping[str, str]]) -> int:
        """Send these, by the names of their fields; how many did not go."""
        missed = 0
        for entry in entries:
            try:
                self._socket.sendto(entry_text(entry), self._place)
            except OSError:
                missed += 1
        return missed


def entry_text(entry: Mapping[str, str]) -> bytes:
    """A value with a line's end in it has its length before it, so that it cannot pass for another field."""
    said = b""
    for name, value in entry.items():
        octets = value.encode()
        if b"\n" in octets:
            said += name.encode() + b"\n" + len(octets).to_bytes(8, "little") + octets + b"\n"
        else:
            said += name.encode() + b"=" + octets + b"\n"
    return said
