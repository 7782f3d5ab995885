"""python -m bench NAME [ARGUMENT…]: one benchmark, which leaves nothing behind, also where it is ended early."""

import signal
import sys
from argparse import ArgumentParser
from importlib import import_module

from cellwall.lab.ending import ended_by_signals

NAMES = ("attach", "dataplane", "flush", "neighbour", "policies", "pool", "rivals", "soak")


def main() -> int:
    """Run what the command line names."""
    parser = ArgumentParser(prog="bench", description="Ratios against peers and against no firewall.")
    parser.add_argument("name", choices=NAMES)
    chosen = parser.parse_args(sys.argv[1:2])
    try:
        with ended_by_signals():
            status: int = import_module(f"bench.{chosen.name}").main(sys.argv[2:])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


if __name__ == "__main__":
    sys.exit(main())
