"""A benchmark that is ended early takes its labs along, as one that comes to its end does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench.__main__ import NAMES

from cellwall.lab import namespaces
from running import come_to, labs_of

REPOSITORY = Path(__file__).parents[2]
WHOLE = 7
"""Namespaces of a lab, at the least, when it is made."""


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "number"), [*((name, signal.SIGTERM) for name in NAMES), ("attach", signal.SIGINT)], ids=str
)
@pytest.mark.slow
def test_a_benchmark_that_is_ended_leaves_no_namespace_and_no_traceback(name: str, number: signal.Signals) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "bench", name], cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    prefixes: list[str] = []

    def has_a_lab() -> bool:
        prefixes[:] = labs_of(running.pid)
        return any(len(namespaces.namespaces_of(prefix)) >= WHOLE for prefix in prefixes)

    try:
        come_to(running, has_a_lab)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 128 + number
        assert b"Traceback" not in said
    finally:
        running.kill()
        running.wait()
    assert [one for prefix in prefixes for one in namespaces.namespaces_of(prefix)] == []
    assert labs_of(running.pid) == []
