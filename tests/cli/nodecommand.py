"""The `cellwall` command inside a lab's node."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from cellwall.lab import Lab
from world import without_what_packets_add

SOURCE = Path(__file__).parents[2] / "src"


class Answer(msgspec.Struct, frozen=True):
    """What one command said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Command:
    """`cellwall` in the node of a lab, with the lab's root."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def argv(self, *arguments: str) -> list[str]:
        start = [f"--net={self.lab.node.netns}", sys.executable, "-m", "cellwall.cli.main"]
        return ["nsenter", *start, "--root", str(self.lab.root), *arguments]

    def __call__(self, *arguments: str, **environ: str) -> Answer:
        done = subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(SOURCE), **environ},
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def snapshot(self) -> tuple[str, str, str]:
        """Everything a refused request must leave alone: endpoints, links, rules."""
        run = self.lab.node.run
        links = run(["ip", "-o", "link"]).text
        rules = without_what_packets_add(run(["nft", "--stateless", "list", "ruleset"]).text)
        return self("list", "--json").out, links, rules
