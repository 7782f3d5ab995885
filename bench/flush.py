"""What others flush: whether anything denied passes meanwhile, for how long, and when what is allowed passes again.

    ./dev bench flush [--samples 10] [--json FILE]    # and then: ./dev bench flush --matrix FILE

Each command on a node with sandboxes, watched (`cellwall watch` as a process) and not, while denied packets are sent
without a pause; where nobody watches, until the sample is over. Where the wall is gone then, without the latch as well,
which shows that what is counted would be seen, and what the latch is worth. `nftables-owned`: the tables have an owner,
as a daemon's have; the latch is away throughout, as it has no part in that.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Literal

import msgspec

from bench.figures import headline, machine, quantile
from bench.firstpacket import Echo
from bench.probes import Probes
from cellwall.adapters.process import find_program
from cellwall.api import Wall
from cellwall.lab import Host, Lab
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

Backend = Literal["nftables", "nftables-owned", "iptables-nft", "iptables-legacy"]
_EMPTY = b"*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n"
_ALL, _ALL_EMPTY = " of all five", _EMPTY + b"*security\nCOMMIT\n"
COMMANDS = (
    "nft flush ruleset",
    "iptables-nft -F",
    "iptables-nft -t nat -F",
    "iptables-nft -t raw -F",
    "iptables-nft -t mangle -F",
    "iptables-nft-restore",
    f"iptables-nft-restore{_ALL}",
    "iptables-legacy -F",
    "iptables-legacy -t nat -F",
    "iptables-legacy -t raw -F",
    "iptables-legacy -t mangle -F",
    "iptables-legacy-restore",
    f"iptables-legacy-restore{_ALL}",
    "ipset flush",
    "ebtables-nft -F",
)
PARTS = ("nft flush ruleset inet", "nft flush table inet cellwall", "nft delete table inet cellwall")
"""What takes away of a wall in nftables what judges, and leaves what vouches. `_UNJUDGED`: of any wall."""

_UNJUDGED = (*PARTS, f"iptables-nft-restore{_ALL}", f"iptables-legacy-restore{_ALL}")

_OWNED: Backend = "nftables-owned"
_CLOSED = "nothing until the watch closes"
_OTHERS, _SECURITY = "the rules: they are in another table", "the same rules in `security`, and `raw`"
HOLDS: dict[tuple[str, Backend], str] = {
    ("nft flush ruleset", "nftables"): "the latch: nothing passes the node",
    ("nft flush ruleset", "iptables-nft"): "the latch: nothing passes the node",
    ("nft flush ruleset", "iptables-legacy"): _OTHERS,
    ("iptables-nft -F", "nftables"): _OTHERS,
    ("iptables-nft -F", "iptables-nft"): _SECURITY,
    ("iptables-legacy -F", "iptables-legacy"): _SECURITY,
    ("iptables-nft -t nat -F", "nftables"): _OTHERS,
    ("iptables-nft -t nat -F", "iptables-nft"): "the rules: translation judges nothing",
    ("iptables-legacy -t nat -F", "iptables-legacy"): "the rules: translation judges nothing",
    ("iptables-nft-restore", "nftables"): _OTHERS,
    ("iptables-nft-restore", "iptables-nft"): "`security`, and the latch: no answer passes",
    ("iptables-legacy-restore", "iptables-legacy"): "`security`",
    ("ebtables-nft -F", "nftables"): _OTHERS,
    ("ebtables-nft -F", "iptables-nft"): "the rules: what vouches is in ebtables' `nat`",
    ("ebtables-nft -F", "iptables-legacy"): "the rules of IP",
    ("iptables-nft -t raw -F", "iptables-nft"): "the rules: `mangle` asks the same pins",
    ("iptables-nft -t mangle -F", "iptables-nft"): "the rules: every packet walks the policy",
    (f"iptables-nft-restore{_ALL}", "iptables-nft"): _CLOSED,
    ("iptables-legacy -t raw -F", "iptables-legacy"): "the rules: `mangle` asks the same pins",
    ("iptables-legacy -t mangle -F", "iptables-legacy"): "the rules: every packet walks the policy",
    (f"iptables-legacy-restore{_ALL}", "iptables-legacy"): _CLOSED,
    ("ipset flush", "iptables-nft"): "the rules: no sandbox is known",
    ("ipset flush", "iptables-legacy"): "the rules: no sandbox is known",
    **{
        (command, "nftables"): "nothing until the watch closes; the latch for what leads to sandboxes"
        for command in PARTS
    },
    ("nft flush ruleset", _OWNED): "the owner: a flush passes its tables over",
    ("nft flush ruleset inet", _OWNED): "the owner: a flush passes its tables over",
    **{(command, _OWNED): "the owner: refused, EPERM" for command in PARTS if "table" in command},
}
"""What is left of the wall then."""
_UNWATCHED, _PATIENCE = 0.5, 10.0
_SETTINGS: dict[Backend, Settings] = {
    "nftables": Settings(backend="nftables"),
    _OWNED: Settings(backend="nftables"),
    "iptables-nft": Settings(backend="iptables", iptables="nft"),
    "iptables-legacy": Settings(backend="iptables", iptables="legacy"),
}


class Row(msgspec.Struct, frozen=True):
    """A command: what came through in all samples, the longest opening, and the median and the longest time until what
    is allowed passed again (-1: it did not while nobody repaired)."""

    backend: str
    command: str
    watched: bool
    latched: bool
    sent: int
    through: int
    open_ms: float
    back_ms: float
    longest_ms: float


class Stage:
    """A node with two sandboxes."""

    def __init__(self, lab: Lab, wall: Wall) -> None:
        self.lab, self.wall = lab, wall
        wall.up()
        self.tenant, self.victim = self._attach("tenant"), self._attach("victim", "8080:80")
        inside = wall.settings.network
        lab.lan.ip([f"route add {inside.subnet4} via {NODE4}", f"route add {inside.subnet6} via {NODE6}"])

    def _attach(self, name: str, *expose: str) -> tuple[Host, Endpoint]:
        host = self.lab.sandbox(name)
        return host, self.wall.attach(name, netns=host.netns, expose=expose)

    def own(self) -> None:
        """The tables have an owner from now on, as a daemon's have."""
        if refused := self.wall.own():
            raise SystemExit(f"no owner: {refused}")
        self.wall.repair()

    def sample(self, command: str, *, watched: bool, latched: bool) -> tuple[int, int, float, float]:
        """(sent, through, seconds open, seconds until both families pass again or -1)."""
        node = self.lab.node
        probes = Probes(self.lab, self.tenant, self.victim)
        with Echo(self.tenant[0], AF_INET) as four, Echo(self.tenant[0], AF_INET6) as six:
            for echo in (four, six):
                echo.await_reply(_PATIENCE)
            if not latched:
                for side in ("ingress", "egress"):
                    node.run(["tc", "filter", "del", "dev", "b9_br0", side, "pref", "2"])
            with probes.running():
                time.sleep(0.1)  # a stretch of the undisturbed wall
                began = time.monotonic()
                carry_out(command, node)
                wait = _PATIENCE if watched else _UNWATCHED
                back = all([four.passes_within(wait), six.passes_within(wait)])
                passed = time.monotonic() - began if back else -1.0
                time.sleep(0.1)
        self.wall.reconcile()
        found = probes.result()
        return found.sent, found.through, found.seconds, passed

    @contextmanager
    def watching(self) -> Iterator[None]:
        argv = [sys.executable, "-m", "cellwall.cli.main", "--root", str(self.lab.root), "-v", "watch"]
        with self.lab.node.enter():
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert process.stderr is not None
            assert b"watching" in process.stderr.readline()
            yield
        finally:
            process.terminate()
            process.communicate()


def carry_out(command: str, node: Host) -> None:
    """The lock of the legacy tables is the machine's, and others hold it now and then."""
    program, *rest = command.removesuffix(_ALL).split()
    waiting = ["-w", "10"] if "legacy" in program else []
    empty = _ALL_EMPTY if command.endswith(_ALL) else _EMPTY
    given = empty if program.endswith("restore") else None
    node.run([program, *waiting, *rest], input=given, check=command not in PARTS)  # an owner has it refused


def measure(backend: Backend, commands: Sequence[str], samples: int) -> Iterator[Row]:
    """Each command that can take anything away of a wall in this backend, or of what it might be thought to be in,
    unwatched and watched; without the latch as well where it takes the wall away. Where the tables have an owner, once
    each, without the latch and unwatched."""
    commands = [command for command in commands if (command, backend) in HOLDS]
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root, settings=_SETTINGS[backend]) as wall:
        stage = Stage(lab, wall)
        if backend == _OWNED:
            stage.own()
            for command in commands:
                yield _row(stage, backend, command, samples, latched=False)
            return
        for command in commands:
            row = _row(stage, backend, command, samples)
            if row.back_ms < 0:
                yield _row(stage, backend, command, 2, latched=False)
            yield row
        with stage.watching():
            for command in commands:
                yield _row(stage, backend, command, samples, watched=True)


def _row(
    stage: Stage, backend: Backend, command: str, samples: int, *, watched: bool = False, latched: bool = True
) -> Row:
    found = [stage.sample(command, watched=watched, latched=latched) for _ in range(samples)]
    backs = [sample[3] for sample in found]
    return Row(
        backend=backend,
        command=command,
        watched=watched,
        latched=latched,
        sent=sum(sample[0] for sample in found),
        through=sum(sample[1] for sample in found),
        open_ms=round(max(sample[2] for sample in found) * 1000, 1),
        back_ms=-1 if min(backs) < 0 else round(quantile(backs, 0.5) * 1000, 1),
        longest_ms=-1 if min(backs) < 0 else round(max(backs) * 1000, 1),
    )


def render(rows: Sequence[Row]) -> str:
    """Every row with its figures."""
    lines = [
        "| backend | what is done | watch | denied, through / sent | open for | an open flow passes again after |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        watch = ("yes" if row.watched else "no") if row.latched else "no, and no latch"
        lines.append(
            f"| {row.backend} | {_command(row.command)} | {watch} | {row.through} / {row.sent:,} |"
            f" {_opened(row)} | {_back(row)} |"
        )
    return "\n".join(lines)


def matrix(rows: Sequence[Row]) -> str:
    """The table of the documentation: what holds by command and backend, how long it was open, when all was back."""
    found = {(row.command, row.backend, row.watched): row for row in rows if row.latched or row.backend == _OWNED}
    lines = [
        "| what somebody does | wall in | what holds | open, unwatched | open, watched | back, watched |",
        "|---|---|---|---|---|---|",
    ]
    for (command, backend), holds in HOLDS.items():
        alone, watched = found.get((command, backend, False)), found.get((command, backend, True))
        if alone is None or (watched is None and backend != _OWNED):
            continue
        watch = ("", "never gone") if watched is None else (_opened(watched), _back(watched))
        owned = f"{alone.through:,} of {alone.sent:,}" if backend == _OWNED else _opened(alone)
        cells = (_command(command), backend.replace("-owned", ", owned"), holds, owned, *watch)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _command(command: str) -> str:
    shown = command.removesuffix(_ALL)
    emptied = ", empty tables" if shown.endswith("restore") else ""
    return f"`{shown}`{emptied}{', `security` as well' if shown != command else ''}"


def _opened(row: Row) -> str:
    if row.through and not row.watched:  # the end of the sample is not the end of it
        return (
            f"until somebody repairs: {row.through:,} of {row.sent:,} packets"
            if row.command in _UNJUDGED
            else _lasted(row)
        )
    return _lasted(row)


def _lasted(row: Row) -> str:
    return f"{row.open_ms:.0f} ms: {row.through} of {row.sent:,} packets" if row.through else "0"


def _back(row: Row) -> str:
    return "not by itself" if row.back_ms < 0 else f"{row.back_ms:.0f} ms, at most {row.longest_ms:.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./dev bench flush", description=__doc__)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--backend", choices=_SETTINGS, action="append")
    parser.add_argument("--only", action="append", metavar="COMMAND", help="one of the commands, as it is written here")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.add_argument("--matrix", metavar="FILE", help="measure nothing: the documentation's table of such rows")
    chosen = parser.parse_args(argv)
    if chosen.matrix:
        print(matrix(msgspec.json.decode(Path(chosen.matrix).read_bytes(), type=list[Row])))
        return 0
    wanted = [command for command in (*COMMANDS, *PARTS) if not chosen.only or command in chosen.only]
    commands = [command for command in wanted if find_program(command.split()[0])]
    rows = [row for backend in chosen.backend or list(_SETTINGS) for row in measure(backend, commands, chosen.samples)]
    print(headline(machine("tmpfs")), end="\n\n")
    print(render(rows))
    if chosen.json:
        Path(chosen.json).write_bytes(msgspec.json.encode(rows))
    return 0
