"""The doctor beside real programs: it names who closes the way, with what to do, and nobody once that is done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cellwall.doctor import Finding, diagnose, observe
from cellwall.model.settings import Settings
from neighbours.beside import marks
from neighbours.dockerd import Docker
from neighbours.kube_proxy import sync
from neighbours.test_firewalld import Firewalld
from neighbours.test_libvirt import Libvirt
from neighbours.test_podman import Podman
from neighbours.test_ufw import Ufw
from world import World, open_world

pytestmark = marks


def findings() -> list[Finding]:
    """What is said about rules and marks of others."""
    found = diagnose(observe(Settings()), Settings())
    return [
        one for one in found if one.subject in ("other rules", "node.mark", "flow table") and one.severity != "note"
    ]


def docker(variant: str) -> Callable[[World, Path], Callable[[], None]]:
    def start(world: World, base: Path) -> Callable[[], None]:
        daemon = Docker(world.lab, base, variant)
        daemon.run("web", "--publish", "8081:80")

        def end() -> None:
            daemon.ask("rm", "--force", "web")
            daemon.annex.close()

        return end

    return start


def ufw(world: World, base: Path) -> Callable[[], None]:
    return Ufw(world, base).annex.close


def podman(world: World, base: Path) -> Callable[[], None]:
    return Podman(world.lab, base, "nftables").close


def libvirt(world: World, base: Path) -> Callable[[], None]:
    return Libvirt(world, base).close


def kube_proxy(flavour: str) -> Callable[[World, Path], Callable[[], None]]:
    def start(world: World, base: Path) -> Callable[[], None]:
        sync(world.lab, flavour)
        return lambda: None

    return start


BESIDE = {
    "docker-nft": (docker("nft"), True),
    "docker-legacy": (docker("legacy"), True),
    "ufw": (ufw, True),
    "podman": (podman, False),
    "libvirt": (libvirt, False),
    "kube-proxy-iptables": (kube_proxy("iptables"), False),
    "kube-proxy-nftables": (kube_proxy("nftables"), False),
}


@pytest.mark.parametrize("name", BESIDE)
def test_who_closes_the_way_is_named_until_up_has_put_its_accept_there(name: str, tmp_path: Path) -> None:
    start, closes = BESIDE[name]
    with open_world(up=False) as world:
        end = start(world, tmp_path)
        before = [one.observed for one in findings()]
        assert all("FORWARD` drops by default" in text for text in before)
        assert bool(before) is closes, before
        world.wall.up()
        after = findings()
        end()
        assert after == []


def test_firewalld_is_named_until_the_operator_did_what_is_told(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        firewalld = Firewalld(world.lab, tmp_path)
        world.wall.up()
        (one,) = findings()
        assert "firewalld filter_FORWARD" in one.observed
        firewalld.carry_out(one.remedy)
        assert findings() == []
