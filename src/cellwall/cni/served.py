"""The daemon's half of a call: the verbs over the wall that it has open for its whole life.

Owns: that a call is for this node and no other, that it goes by the settings of now, and that it leaves what a process
of its own would leave: a DEL, no link in the sandbox.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from cellwall.cni.conf import AttachConf, NetworkConf
from cellwall.cni.contract import WallPort
from cellwall.cni.main import Answer, Call, answered, carry_out
from cellwall.cni.thin import ELSEWHERE, FAILED, OURS
from cellwall.config import paths_for

_CLOSING = ("DEL", "GC")


def answer_over(wall: WallPort, environ: Mapping[str, str], raw: bytes) -> tuple[int, bytes, bool]:
    """Answer one call over an open wall: a status of HTTP, its body, and whether it is to wait until links that were
    left behind are gone (`clear_up`): one at a time they cost more than all together. `environ` has the CNI_ variables
    of the plugin's process, and CELLWALL_ROOT where that has one; `raw` is its standard input. Never raises. That a
    result was delivered is for the plugin to note."""
    elsewhere = False

    def over(call: Call) -> Answer:
        nonlocal elsewhere
        elsewhere = not _same(paths_for(call.conf.root or None, environ).base, wall.paths.base)
        return Answer() if elsewhere else carry_out(_of_this_node(call, wall), _LentWalls(wall))

    answer = answered(environ, raw, over)
    status = ELSEWHERE if elsewhere else FAILED if answer.failed else OURS
    return status, answer.body, not elsewhere and environ.get("CNI_COMMAND") in _CLOSING


class _LentWalls:
    """The daemon's wall, for one call."""

    def __init__(self, wall: WallPort) -> None:
        self._wall = wall

    @contextmanager
    def to_open(self, conf: AttachConf) -> Iterator[WallPort]:
        from cellwall.cni.settings import settings_for

        settings_for(conf)  # refused where it is wrong, as by a process of its own
        self._wall.settings_to_open_by()
        yield self._wall

    @contextmanager
    def to_close(self, conf: NetworkConf) -> Iterator[WallPort]:
        yield self._wall


def _of_this_node(call: Call, wall: WallPort) -> Call:
    """The call with the root written out: the daemon has an environment of its own."""
    return msgspec.structs.replace(call, conf=msgspec.structs.replace(call.conf, root=wall.paths.base))


def _same(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
