"""Entry point of `cellwall`. Imports next to nothing itself, so that Ctrl-C ends the program as quietly while it is
still loading as it does later on.

`_signal` and not `signal`, which makes enumerations of everything, for 3 ms in which Ctrl-C would be a traceback.
"""

import _signal as signal  # type: ignore[import-not-found]
import os
import sys
from collections.abc import Callable, Sequence

_INTERRUPTED = 128 + signal.SIGINT  # `exits` has it too, and is not loaded yet


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; `argv` None: that of this process."""
    if argv is not None:
        return _load()(argv)
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not behind nohup or `&` in a script
    if interruptible:
        signal.signal(signal.SIGINT, _leave)
    run_command = _load()
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = run_command(sys.argv[1:])
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the answer is out, and Python's own end takes a moment
    return status


def _load() -> Callable[[Sequence[str]], int]:
    from cellwall.cli.command import run_command

    return run_command


def _leave(_: int, __: object) -> None:
    """Nothing was done yet, and there is nothing to clean up."""
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
