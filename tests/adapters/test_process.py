"""Programs that are started end with whoever waits for them."""

import subprocess
import sys

_INTERRUPTED_BY_ITS_CHILD = """
from cellwall.adapters.process import run
try:
    run(["sh", "-c", "kill -INT $PPID"])
except BaseException as error:
    print(type(error).__name__)
"""


def test_an_interrupt_that_meets_a_program_at_its_end_stays_an_interrupt() -> None:
    for _ in range(5):  # either may come first
        done = subprocess.run(
            [sys.executable, "-c", _INTERRUPTED_BY_ITS_CHILD], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout == "KeyboardInterrupt\n"
