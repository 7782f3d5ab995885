"""Samples, quantiles, and where they were taken."""

import math
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from cellwall.adapters.process import find_program, run

Place = Literal["tmpfs", "disk"]
_TMPFS = "/dev/shm"


class Row(msgspec.Struct, frozen=True):
    """Quantiles in milliseconds; with fewer than 100 samples p99 is the largest one."""

    contestant: str
    operation: str
    attached: int
    samples: int
    p50: float
    p99: float


class Machine(msgspec.Struct, frozen=True):
    """What a figure is worth without: nothing."""

    date: str
    kernel: str
    cpus: int
    model: str
    python: str
    nft: str
    state: Place


def summarise(contestant: str, operation: str, attached: int, seconds: Sequence[float]) -> Row:
    """One row of a table; the samples are in seconds."""
    return Row(contestant, operation, attached, len(seconds), _milli(seconds, 0.5), _milli(seconds, 0.99))


def quantile(samples: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was really measured."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def _milli(samples: Sequence[float], share: float) -> float:
    return round(quantile(samples, share) * 1000, 3)


def machine(state: Place) -> Machine:
    """This machine's class."""
    nft = run(["nft", "--version"]).text.split()[1] if find_program("nft") else "none"
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        kernel=platform.release(),
        cpus=os.cpu_count() or 1,
        model=_model(),
        python=platform.python_version(),
        nft=nft,
        state=state,
    )


def place_state(state: Place) -> None:
    """Where labs keep everybody's state. In production that is /run, a tmpfs: on a disk each commit is an fsync."""
    if state == "tmpfs" and os.path.isdir(_TMPFS):
        tempfile.tempdir = _TMPFS


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first one to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def headline(where: Machine) -> str:
    """One line over a table."""
    return (
        f"{where.date} · Linux {where.kernel} · {where.cpus} × {where.model} · Python {where.python}"
        f" · nft {where.nft} · state on {where.state}"
    )


def _model() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
