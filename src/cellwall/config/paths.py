"""Where a node keeps its configuration, its durable state and the state of this boot.

One root moves all three, so that many nodes (each in its own network namespace) live on one machine.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """`state` survives a boot, `run` does not; neither needs to exist yet."""

    config_file: Path
    state: Path
    run: Path


def paths_for(root: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Paths:
    """The paths under `root`, else under the environment's CELLWALL_ROOT, else the system's own."""
    base = Path(root or environ.get("CELLWALL_ROOT") or "/").absolute()
    return Paths(
        config_file=base / "etc/cellwall/cellwall.toml",
        state=base / "var/lib/cellwall",
        run=base / "run/cellwall",
    )
