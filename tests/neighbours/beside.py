"""What must hold on a node that others share: ours works, theirs works, the wall holds, also while they reload."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.attack.command import attack_here
from cellwall.attack.flood import Flood
from cellwall.attack.rows import every_probe
from cellwall.doctor import diagnose, observe
from cellwall.engine.backend import BackendName
from cellwall.lab import connect
from cellwall.lab.addresses import INFRA4, INFRA6, LAN4, LAN6, METADATA4, METADATA6, NODE4, NODE6
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from neighbours.gaps import Gaps
from world import Sandbox, World, assert_connection, open_world, public

FAMILIES = (4, 6)
PUBLISHED = 8080
_SIEGE, _PORT = b"<siege>", 80
_TARGETS = ((METADATA4["all clouds"], METADATA6["AWS"]), (LAN4, LAN6), (NODE4, NODE6), (INFRA4, INFRA6))


class Tenants:
    """Two sandboxes, one of which publishes a port, and services everywhere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.web = world.attach("web", expose=[f"{PUBLISHED}:{_PORT}"])
        self.rogue = world.attach("rogue")
        lab = world.lab
        hosts = (lab.internet, lab.lan, lab.node, lab.infra, self.web.host)
        self.services = {host.name: host.serve(tcp=[_PORT], udp=[_PORT]) for host in hosts}

    def close(self) -> None:
        for service in self.services.values():
            service.close()
        for sandbox in (self.web, self.rogue):
            self.world.detach(sandbox)

    def assert_work(self) -> None:
        """Egress over TCP and UDP and the published port, in both families."""
        for family in FAMILIES:
            assert_connection(self.rogue.host, public(family), _PORT)
            assert_connection(self.rogue.host, public(family), _PORT, udp=True)
            assert_connection(self.world.lab.lan, NODE4 if family == 4 else NODE6, PUBLISHED)

    @contextmanager
    def besieged(self) -> Iterator[None]:
        """Denied packets without a pause while the block runs: from a sandbox to everything that it may not reach, and
        from a neighbour of the node straight to a sandbox. None arrives. How many they were, and for how long nothing
        passed that may, is printed."""
        lab = self.world.lab
        gateway, mac = lab.node.mac("b9_br0"), mac_text(self.rogue.endpoint.mac)
        targets = (*_TARGETS, own(self.web))
        outward = [*chain.from_iterable(frames(mac, gateway, own(self.rogue), pair) for pair in targets)]
        inward = frames(lab.lan.mac("eth0"), lab.node.mac("eth0"), (LAN4, LAN6), own(self.web))
        with ExitStack() as stack:
            floods = [
                stack.enter_context(Flood(self.rogue.host, "eth0", outward, every=0.001)),
                stack.enter_context(Flood(lab.lan, "eth0", inward, every=0.001)),
            ]
            for flood in floods:
                flood.wait()
            gaps = stack.enter_context(Gaps(self.rogue.host, _PORT))
            yield
            for flood in floods:
                flood.wait()
        sent = floods[0].rounds * len(outward) + floods[1].rounds * len(inward)
        print(f"{sent} denied packets sent; what is allowed did not pass for {gaps.longest:.0f} ms at most")
        for name, service in self.services.items():
            sentinel = self.world.token("sentinel")
            self._ask(name, sentinel)
            assert service.saw(sentinel), f"{name} hears nobody"
            assert not service.saw(_SIEGE), f"{name} was reached"

    def _ask(self, name: str, sentinel: bytes) -> None:
        """What may arrive does: after it, what had been let through before has arrived as well."""
        lab = self.world.lab
        asked = {"internet": public(4), "lan": LAN4, "node": NODE4, "infra": INFRA4}.get(name)
        if asked:
            connect(lab.node, asked, _PORT, udp=True, payload=sentinel)
        else:
            connect(lab.lan, NODE4, PUBLISHED, payload=sentinel)


def own(sandbox: Sandbox) -> tuple[str, str]:
    return sandbox.address(4), sandbox.address(6)


def frames(source_mac: str, mac: str, source: tuple[str, str], target: tuple[str, str]) -> list[bytes]:
    """A datagram of each family to a port that is served."""
    ether = Ether(src=source_mac, dst=mac)
    heads = IP(src=source[0], dst=target[0]), IPv6(src=source[1], dst=target[1])
    return [bytes(ether / head / UDP(sport=_PORT, dport=_PORT) / Raw(_SIEGE)) for head in heads]


@contextmanager
def tenants(world: World) -> Iterator[Tenants]:
    """They are gone afterwards."""
    made = Tenants(world)
    try:
        yield made
    finally:
        made.close()


def assert_holds(world: World) -> None:
    """The hostile tenant, with everything that it tries on a live node."""
    report = attack_here(str(world.lab.root), every_probe())
    through = [probe.id for probe in report.probes if probe.through]
    assert len(report.probes) > 100
    assert not through, through


def assert_nothing_to_do(world: World) -> None:
    """Neither status nor the doctor finds anything in other programs' rules that keeps sandboxes from working."""
    assert world.wall.status().drift == ()
    settings = world.wall.settings
    told = [finding.observed for finding in diagnose(observe(settings), settings) if finding.subject == "other rules"]
    assert not told, told


def held_by(backend: BackendName) -> AbstractContextManager[World]:
    """A node whose wall is not up yet, and what shall hold it."""
    return open_world(settings=Settings(backend=backend), up=False)


@contextmanager
def watched(world: World) -> Iterator[None]:
    """`cellwall watch` runs on the node, as a service would."""
    code = "import sys; from cellwall.cli.main import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "--root", str(world.lab.root), "watch"]
    watcher = world.lab.node.popen(argv)
    try:
        yield
        assert watcher.poll() is None
    finally:
        watcher.terminate()
        watcher.wait(30)


def comes_back(works: Callable[[], bool], patience: float = 20.0) -> bool:
    """Whether it works again, without anyone here acting."""
    deadline = time.monotonic() + patience
    while not works():
        if time.monotonic() > deadline:
            return False
    return True


def rules_of_others(world: World) -> str:
    """Every nft rule that is not ours, iptables' too; no counters."""
    listed = world.lab.node.run(["nft", "--stateless", "list", "ruleset"]).text
    tables = re.split(r"^(?=table )", listed, flags=re.MULTILINE)
    return "".join(table for table in tables if not re.match(r"table \S+ cellwall\b", table))


def filter_rules(world: World, variant: str = "nft") -> str:
    """Everything that iptables holds, without counters and dates."""
    said = ""
    for program in (f"iptables-{variant}-save", f"ip6tables-{variant}-save"):
        lines = world.lab.node.run([program]).text.splitlines()
        said += "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))
    return said


BACKENDS = ("nftables", "iptables")
marks = [pytest.mark.root, pytest.mark.slow, pytest.mark.full]
