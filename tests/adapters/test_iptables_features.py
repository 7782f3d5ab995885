"""What a host's iptables has of what a wall needs: which variant, which features, and what is lacking."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cellwall.adapters.interfaces import bridge_ports
from cellwall.adapters.interfaces.port_trial import try_port_flags
from cellwall.adapters.iptables import probes as iptables_probes
from cellwall.adapters.iptables.ipset import has_type
from cellwall.adapters.iptables.tables import XtTables
from cellwall.adapters.netlink.nlattr import attribute_u8, nested
from cellwall.adapters.netlink.rtnetlink import IFLA_PROTINFO
from cellwall.engine.iptables.contracts import Variant
from cellwall.lab import Host, Lab
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import (
    Family,
)

pytestmark = pytest.mark.root
VARIANTS: tuple[Variant, ...] = ("nft", "legacy")


@pytest.fixture
def node() -> Iterator[Host]:
    with Lab() as lab, lab.node.enter():
        yield lab.node


def test_the_variant_of_the_hosts_own_rules_comes_first(node: Host) -> None:
    tables = XtTables()
    assert tables.variants() == ("nft", "legacy")
    node.run(["iptables-legacy", "-w", "-A", "FORWARD", "-i", "eth1", "-j", "ACCEPT"])
    assert tables.variants() == ("legacy", "nft")
    node.run(["iptables-nft", "-w", "-A", "FORWARD", "-m", "comment", "--comment", "see B9-FORWARD", "-j", "ACCEPT"])
    assert tables.variants() == ("nft", "legacy")
    node.run(["iptables-legacy", "-w", "-A", "FORWARD", "-i", "eth2", "-j", "ACCEPT"])
    assert tables.variants() == ("legacy", "nft")


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_found_without_a_trace(node: Host, variant: Variant) -> None:
    before = node.run(["nft", "list", "ruleset"]).text
    found = XtTables().features(variant)
    assert found == XtFeatures(ipmac=has_type("hash:ip,mac"))
    assert node.run(["nft", "list", "ruleset"]).text == before


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", ["/usr/sbin:/usr/bin", "/nowhere"])
def test_what_a_whole_wall_needs_is_here(
    node: Host, variant: Variant, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    assert XtTables().lacking(variant) == ()


def test_what_is_missing_is_named(node: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    programs: dict[Family, Sequence[str]] = {"ipv4": ["false"], "ipv6": ["false"], "bridge": ["false"]}
    broken = iptables_probes.lacking(programs, iptables_probes.Trials())
    assert {"conntrack (false)", "u32 (false)", "DNAT (false)"} <= set(broken)
    assert "icmp6 (false)" not in broken  # without any ip6tables there is no IPv6, and a wall all the same
    one = {**iptables_probes._NEEDED, "horoscope": (("ipv6",), "raw", "-m horoscope --sign leo -j DROP")}
    monkeypatch.setattr(iptables_probes, "_NEEDED", one)
    assert XtTables().lacking("nft") == ("horoscope (ip6tables-nft-restore)",)


def test_what_loaded_once_is_tried_again_only_where_its_program_is_another(node: Host, tmp_path: Path) -> None:
    program, runs, trials = tmp_path / "restore", tmp_path / "runs", iptables_probes.Trials()

    def install(status: int) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(f"#!/bin/sh\necho >>{runs}\nexit {status}\n")
        fresh.chmod(0o755)
        fresh.rename(program)

    def tried() -> tuple[bool, int]:
        answer = trials.loads([str(program)], "*filter\nCOMMIT\n")
        return answer, len(runs.read_text())

    install(1)
    assert [tried(), tried()] == [(False, 1), (False, 2)]  # the module it needs may have come
    install(0)
    assert [tried(), tried()] == [(True, 3), (True, 3)]
    install(1)
    assert tried() == (False, 4)


def test_a_bridge_whose_ports_do_not_lock_is_named(node: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_port_flags() == ()
    flags = bridge_ports._FLAGS
    unknown = tuple((200 if name == "locked" else kind, value, name) for kind, value, name in flags)
    plain = nested(IFLA_PROTINFO, *(attribute_u8(kind, value) for kind, value, _ in unknown))
    monkeypatch.setattr(bridge_ports, "_FLAGS", unknown)
    monkeypatch.setattr(bridge_ports, "_LOCKED", plain)
    assert try_port_flags() == ("locked",)
    for variant in VARIANTS:
        assert XtTables().lacking(variant) == ("locked bridge ports (Linux 5.18)",)


def test_frames_that_neither_ebtables_nor_iptables_would_see_are_named(
    node: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    nft = {"ipv4": ["iptables-nft-restore"], "ipv6": ["ip6tables-nft-restore"], "bridge": ["ebtables-nft-restore"]}
    trials = iptables_probes.Trials()
    assert iptables_probes.lacking({**nft, "bridge": ["false"]}, trials) == ()
    monkeypatch.setattr(iptables_probes, "_BRIDGE_CALLS", ("net/bridge/no-such-setting",))
    assert iptables_probes.lacking(nft, trials) == ()
    assert iptables_probes.lacking({**nft, "bridge": ["false"]}, trials) == (
        "ebtables and br_netfilter, of which it needs one",
    )


def test_a_feature_is_there_where_every_family_that_there_is_has_it(node: Host) -> None:
    nft = {"ipv4": ["iptables-nft-restore"], "ipv6": ["ip6tables-nft-restore"], "bridge": ["ebtables-nft-restore"]}
    trials = iptables_probes.Trials()
    assert iptables_probes.features(nft, trials) == XtTables().features("nft")
    without6 = iptables_probes.features({**nft, "ipv6": ["false"]}, trials)
    assert (without6.ipv6, without6.nat6, without6.program, without6.security) == (False, False, True, True)
    bare = iptables_probes.features({**nft, "ipv4": ["false"], "bridge": ["false"]}, trials)
    assert (bare.ipv6, bare.program, bare.security, bare.frames) == (True, False, False, False)
