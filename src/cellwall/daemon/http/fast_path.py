"""A claim in the very octets that our own client writes, answered as it arrives: a tenth of a millisecond less than by
a request and a response of aiohttp's.

Owns: which octets these are, and that everything else, and whatever is not done at once, goes the way of all calls, and
what was begun is undone; so there is one place that says why something is refused.
"""

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache

import msgspec

from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Peer
from cellwall.daemon.http.answers import JSON
from cellwall.daemon.http.decoding import is_long
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint
from cellwall.wire.answers import EndpointAnswer
from cellwall.wire.bodies import AttachBody, Places
from cellwall.wire.calls import CLAIM
from cellwall.wire.documents import endpoint_document
from cellwall.wire.octets import answer_text, request_text

ClaimAtOnce = Callable[[Asker, Places], Endpoint | None]
"""Gives a new endpoint; or None, and what was begun is undone."""

_HEAD = request_text(CLAIM.method, CLAIM.path, b"").removesuffix(b"0\r\n\r\n")
_LONGEST = 6
"""Digits of a length: nothing that is longer is short."""

_decode = msgspec.json.Decoder(AttachBody).decode
_encode = msgspec.json.Encoder().encode


class FastPath:
    """`counted` is told of each claim that was answered, as of any call."""

    def __init__(self, claim: ClaimAtOnce, authority: Authority, counted: Callable[[str, str, float], None]) -> None:
        self._claim = claim
        self._authority = authority
        self._counted = counted
        self._took = 0.0

    def read(self, peer: Peer, said: bytes) -> Places | None:
        """The claim that is all that a connection said; None where it is another's to answer."""
        if not said.startswith(_HEAD):
            return None
        length, end, raw = said[len(_HEAD) :].partition(b"\r\n\r\n")
        if not (end and len(length) <= _LONGEST and length.isdigit()) or int(length) != len(raw) or is_long(raw):
            return None
        try:
            self._authority.permit(peer, CLAIM.verb)
            body = _decode(raw)
            # As it is written here no name stands twice.
            return Places([body], [""]) if _encode(body) == raw else None
        except (CellwallError, msgspec.DecodeError):
            return None

    def answer(self, peer: Peer, places: Places) -> bytes | None:
        """The whole answer to what was `read`; None, and what was begun is undone, where it is not done at once. For
        who knows that nobody else waits for an answer."""
        began = time.monotonic()
        try:
            claimed = self._claim(Asker(peer, self._authority), places)
        except CellwallError:
            return None
        if claimed is None:
            return None
        body = _encode(EndpointAnswer(endpoint_document(claimed)))
        answer = answer_text("201 Created", JSON, body, f"Date: {_date(int(time.time()))}")
        self._took = time.monotonic() - began
        return answer

    def answered(self) -> None:
        """The last answer was sent."""
        self._counted(CLAIM.name, "ok", self._took)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
