"""What the doctor reads is what the kernel has, and reading leaves no trace."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cellwall.doctor import features, observe
from cellwall.doctor.observation import Listener, Observation, Route
from cellwall.model.settings import Settings

_WORLD = """
ip link set lo up
ip link add up0 type veth peer name up1
ip link set up0 up; ip link set up1 up
ip addr add 93.184.216.10/24 dev up0
ip -6 addr add 2606:2800:220:1::10/64 dev up0 nodad
ip route add default via 93.184.216.1 dev up0
ip -6 route add default via 2606:2800:220:1::1 dev up0
ip route add 10.9.0.0/20 via 93.184.216.7
nft 'table ip marks { chain pre { type filter hook prerouting priority 0; iifname "x" ct mark set 0x1; }; }'
iptables-nft -t mangle -A OUTPUT -j CONNMARK --set-mark 1
iptables-nft -t mangle -A FORWARD -j CONNMARK --restore-mark
iptables-nft -t mangle -A INPUT -j MARK --set-mark 1
nft 'table ip other { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'
sysctl -qw net.ipv4.ip_local_port_range='20000 40000'
exec "$0" -c "$1"
"""
_PROGRAM = """
import socket, sys, msgspec
from cellwall.doctor import observe
from cellwall.model.settings import Settings
kept = [socket.socket(family, kind) for family in (socket.AF_INET, socket.AF_INET6)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
for port, one in enumerate(kept, 15000):
    one.bind(("::" if one.family == socket.AF_INET6 else "93.184.216.10", port))
    if one.type == socket.SOCK_STREAM:
        one.listen()
sys.stdout.buffer.write(msgspec.json.encode(observe(Settings())))
"""


@pytest.fixture(scope="module")
def host() -> Observation:
    """One look from inside a namespace of known shape, which ends with the process."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", _WORLD, sys.executable, _PROGRAM], capture_output=True, check=True, timeout=60
    )
    return msgspec.json.decode(done.stdout, type=Observation)


@pytest.mark.root
def test_routes_and_defaults_are_those_of_the_namespace(host: Observation) -> None:
    assert {Route("up0", "93.184.216.0/24"), Route("up0", "10.9.0.0/20")} <= set(host.routes)
    assert Route("up0", "2606:2800:220:1::/64") in host.routes
    assert (host.default_interface(4), host.default_interface(6)) == ("up0", "up0")
    assert {"lo", "up0", "up1"} <= host.interfaces


@pytest.mark.root
def test_listeners_are_seen_in_both_families_and_protocols(host: Observation) -> None:
    assert set(host.listeners) == {
        Listener("tcp", "93.184.216.10", 15000),
        Listener("udp", "93.184.216.10", 15001),
        Listener("tcp", "::", 15002),
        Listener("udp", "::", 15003),
    }


@pytest.mark.root
def test_foreign_drop_and_kernel_settings_are_read(host: Observation) -> None:
    assert [chain.place for chain in host.chains if chain.drops] == ["ip other FORWARD"]
    marking = {chain.place for chain in host.chains for rule in chain.rules if "marks the flow" in rule.acts}
    assert marking == {"ip marks pre", "ip mangle OUTPUT"}
    assert {chain.place for chain in host.chains for rule in chain.rules if rule.writes} == {
        "ip mangle FORWARD",
        "ip mangle INPUT",
    }
    assert host.sysctls["net.ipv4.ip_local_port_range"].split() == ["20000", "40000"]
    assert host.kernel >= (5, 0)
    assert host.nft is not None
    assert host.nft > (1,)


@pytest.mark.root
def test_the_latch_is_tried(host: Observation) -> None:
    assert host.unlatched == ""


@pytest.mark.root
def test_both_mechanisms_are_asked(host: Observation) -> None:
    assert host.refusals == {"nftables": "", "iptables": ""}
    assert host.iptables is not None
    assert host.iptables.variant in ("nft", "legacy")


@pytest.mark.root
def test_every_feature_is_tried_and_here_works(host: Observation) -> None:
    assert host.features == {feature.name: "" for feature in features.FEATURES}
    assert host.unfiltered == ""


@pytest.mark.root
def test_refused_rule_is_reported_in_the_kernels_words() -> None:
    said = features._attempt("table inet probe { chain probe { type filter hook nowhere priority 0; } ; }")
    assert "Error" in said
    assert "\n" not in said


@pytest.mark.root
def test_nft_is_found_where_up_finds_it_though_path_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert set(features.try_features().values()) == {""}


@pytest.mark.root
def test_trying_features_leaves_the_own_namespace_alone() -> None:
    program = (
        "import subprocess\nfrom cellwall.doctor.features import try_features\n"
        "list = lambda: subprocess.run(['nft', 'list', 'ruleset'], capture_output=True, check=True).stdout\n"
        "before = list()\ntry_features()\nassert list() == before == b''"
    )
    subprocess.run(["unshare", "--net", sys.executable, "-c", program], check=True, timeout=60)


def test_without_privileges_nothing_is_tried_and_nothing_fails() -> None:
    if os.geteuid() != 0:
        assert observe(Settings()).missing_capabilities
        return
    program = "import sys, msgspec\nfrom cellwall.doctor import observe, diagnose\nfrom cellwall.model.settings import "
    program += "Settings\nseen = observe(Settings())\nassert seen.features == {}, seen\n"
    program += "assert diagnose(seen, Settings())[0].subject == 'privileges'"
    powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534", "--clear-groups"]
    done = subprocess.run(
        [*powerless, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(features.__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr


def test_addresses_of_proc_are_words_in_host_order() -> None:
    from cellwall.doctor.observe import _proc_address

    if sys.byteorder == "little":
        assert _proc_address("0100007F") == "127.0.0.1"
        assert _proc_address("00000000000000000000000001000000") == "::1"
    assert socket.inet_ntoa(bytes(4)) == _proc_address("00000000")
