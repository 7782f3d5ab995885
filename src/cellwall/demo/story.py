"""The telling: scenes of lines, as text while they happen or as one JSON document at the end.

Owns: what was told, and whether all of it came out as it should. A line that did not stays visible in both forms, and
decides the exit status. Refuses colour wherever a person might not see it as colour: not on a terminal, or NO_COLOR is
set (https://no-color.org).
"""

import os
import sys
from typing import Literal

import msgspec

Mark = Literal["works", "stopped", "gets through"]

_SIGNS: dict[Mark, tuple[str, str]] = {"works": ("✓", "32"), "stopped": ("■", "32"), "gets through": ("→", "33")}
_WRONG = ("✗", "31")
_BOLD, _FAINT = "1", "2"


class Line(msgspec.Struct, frozen=True):
    """One thing that happened. `as_told`: it is what this scene is there to show."""

    what: str
    mark: Mark
    happened: str
    as_told: bool


class Scene(msgspec.Struct, frozen=True):
    """A title, what it is about, and its lines in order."""

    title: str
    about: str
    lines: list[Line]


class Story:
    """What is told so far. As text it is printed line by line, as `json` it is the caller's to print."""

    def __init__(self, *, json: bool = False) -> None:
        self.scenes: list[Scene] = []
        self._json = json
        self._colour = not json and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    @property
    def as_told(self) -> bool:
        """Everything so far came out as it should."""
        return all(line.as_told for scene in self.scenes for line in scene.lines)

    def open(self, title: str, about: str = "") -> None:
        """Begin a scene."""
        self.scenes.append(Scene(title, about, []))
        self.say("")
        self.say(self._painted(f"{len(self.scenes)}. {title}", _BOLD))
        if about:
            self.say(self._painted(f"   {about}", _FAINT))

    def tell(self, what: str, mark: Mark, happened: str, *, as_told: bool = True) -> None:
        """Add a line to the scene."""
        self.scenes[-1].lines.append(Line(what, mark, happened, as_told))
        sign, colour = _SIGNS[mark] if as_told else _WRONG
        self.say(f"   {self._painted(sign, colour)} {what:<68} {self._painted(happened, colour)}")

    def say(self, text: str) -> None:
        """Text outside of any scene; JSON has no use for it."""
        if not self._json:
            print(text, flush=True)

    def count(self, mark: Mark) -> int:
        """How many lines have this mark."""
        return sum(line.mark == mark for scene in self.scenes for line in scene.lines)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text
