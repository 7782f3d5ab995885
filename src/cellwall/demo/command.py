"""`cellwall demo`: the story from the first namespace to the last, and an exit status that says if it came out.

Exit status 0 only if everything was as told: tenants served, no attempt through the wall, every attempt through
without it. Ends its lab also on Ctrl-C, SIGTERM and SIGHUP; what SIGKILL leaves, the next lab sweeps away.
"""

import os
import time
from collections.abc import Sequence

import msgspec

from cellwall.adapters.process import find_program
from cellwall.arguments import Parser
from cellwall.demo.play import play
from cellwall.demo.story import Story
from cellwall.errors import NoPrivilege, Unsupported
from cellwall.lab import Lab
from cellwall.lab.ending import ended_by_signals

NOT_AS_TOLD = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story; the exit status. NoPrivilege without root, Unsupported where a program is missing."""
    parser = Parser(
        prog="cellwall demo",
        description="Two tenants on one node, in throw-away network namespaces: their work, and attacks that fail.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the story")
    parser.add_argument("--no-control", action="store_true", help="leave out the same attempts without the wall")
    chosen = parser.parse_args(argv)
    _require_host()
    began = time.monotonic()
    story = Story(json=chosen.json)
    with ended_by_signals(), Lab() as lab:
        play(lab, story, control=not chosen.no_control)
    seconds = time.monotonic() - began
    if chosen.json:
        print(msgspec.json.format(_document(story, seconds)).decode(), flush=True)
    story.say("")
    story.say(_moral(story, seconds))
    return 0 if story.as_told else NOT_AS_TOLD


def _require_host() -> None:
    if os.geteuid() != 0:
        raise NoPrivilege("the demo makes network namespaces: it needs root")
    for program in ("nft", "ip"):
        if find_program(program) is None:
            raise Unsupported(f"the program {program!r} is not installed")


def _document(story: Story, seconds: float) -> bytes:
    return msgspec.json.encode(
        {"as_told": story.as_told, "seconds": round(seconds, 3), "scenes": story.scenes},
    )


def _moral(story: Story, seconds: float) -> str:
    if not story.as_told:
        return f"Not everything came out as told (✗). {seconds:.1f} s"
    stopped, through = story.count("stopped"), story.count("gets through")
    control = f"; without it {through} of {stopped} get through" if through else ""
    return f"As told: {stopped} attempts, none through the wall{control}. {seconds:.1f} s"
