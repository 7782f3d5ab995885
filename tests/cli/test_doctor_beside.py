"""From other programs' rules, as nft and iptables-legacy-save list them, to what they mean for sandboxes."""

import msgspec
import pytest

from cellwall.doctor import Observation, diagnose
from cellwall.doctor.foreign import parse_nft, parse_xtables
from cellwall.doctor.observation import Chain, MarkRoute, Route
from cellwall.model.settings import Settings

HOST = Observation(kernel=(6, 18), nft=(1, 1, 3), routes=(Route("eth0", "0.0.0.0/0"), Route("eth0", "::/0")))
OURS = frozenset({"cellwall"})


def nft_chain(
    *rules: str, hook: str = "", family: str = "ip", table: str = "t", name: str = "c", more: str = ""
) -> str:
    """A table with one chain, as nft lists it, and the text of further chains."""
    lines = [f"\t\t{line}" for line in ((hook, *rules) if hook else rules)]
    return "\n".join([f"table {family} {table} {{", f"\tchain {name} {{", *lines, "\t}", more, "}"])


def found(listing: str, *, legacy: str = "", settings: Settings | None = None) -> list[tuple[str, str, str]]:
    """(severity, subject, observed) of what is found about these rules."""
    chains, tables = parse_nft(listing, ours=OURS)
    host = msgspec.structs.replace(HOST, chains=(*chains, *parse_xtables(legacy, "ip")), flow_tables=tables)
    return [
        (one.severity, one.subject, one.observed)
        for one in diagnose(host, settings or Settings())
        if one.severity != "note"
    ]


FORWARD = "type filter hook forward priority filter; policy accept;"
DROPS = "type filter hook forward priority filter; policy drop;"
FIRST = "type filter hook prerouting priority raw - 10; policy accept;"
BOTH = ('iifname "b9_br0" counter accept', 'oifname "b9_br0" counter accept')
DOCKER_USER = "\tchain DOCKER-USER {\n\t\t" + "\n\t\t".join(BOTH) + "\n\t}"
X = "\tchain x {\n\t\tmeta l4proto tcp accept\n\t}"
DNAT = "type nat hook prerouting priority dstnat; policy accept;"
BY_DEFAULT = "drops by default"


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (nft_chain(hook=DROPS), "from or goes to b9_br0"),
        (nft_chain("counter reject with icmpx admin-prohibited", hook=FORWARD), BY_DEFAULT),
        (nft_chain(BOTH[0], hook=DROPS), "accepts nothing that goes to b9_br0"),
        (nft_chain(BOTH[1], hook=DROPS), "accepts nothing that comes from b9_br0"),
        (nft_chain(BOTH[0], 'oifname "b9_br0" ct state established,related accept', hook=DROPS), "goes to b9_br0"),
        (nft_chain('iifname "docker0" accept', 'oifname "docker0" accept', hook=DROPS), BY_DEFAULT),
        (nft_chain('iifname != "b9_br0" accept', hook=DROPS), BY_DEFAULT),
        (nft_chain("jump elsewhere", hook=DROPS, more=DOCKER_USER), BY_DEFAULT),
        (nft_chain('iifname "docker0" jump DOCKER-USER', hook=DROPS, more=DOCKER_USER), BY_DEFAULT),
        (nft_chain("ip saddr 192.168.0.0/20 drop", hook=FORWARD), "drops traffic of sandboxes"),
        (nft_chain('oifname { "br1", "b9_br0" } reject', hook=FORWARD), "drops traffic of sandboxes"),
        (nft_chain('iifname "b9h*" drop', hook=FORWARD, family="bridge"), None),  # nothing of ours is bridged
        (nft_chain("notrack", hook=FIRST), "out of connection tracking"),
        (nft_chain("meta l4proto tcp tproxy to :15001", hook=FIRST), "before the wall"),
        (nft_chain('fwd to "lo"', hook=FIRST.replace("hook prerouting", 'hook ingress device "eth0"'), family="netdev"),
         "before the wall"),
        (nft_chain('fwd to "lo"', hook=FIRST.replace("hook prerouting", 'hook ingress device "eth7"'), family="netdev"),
         None),
        (nft_chain("ct mark set 0x00000001", hook=FORWARD), "writes conntrack marks"),
        (nft_chain('xt target "CONNMARK"', hook=FORWARD), "writes conntrack marks"),
        (nft_chain("meta mark set ct mark", hook=FORWARD), "writes bit 0x1000"),
        (nft_chain("meta mark set 0x00000005", hook=FORWARD), "writes bit 0x1000"),
        (nft_chain("meta mark set meta mark | 0x00001000", hook=FORWARD), "writes bit 0x1000"),
        (nft_chain("counter meta mark set mark or 0x1000", hook=FORWARD), "writes bit 0x1000"),
        (nft_chain("meta mark set meta mark & 0xffffefff", hook=FORWARD), "writes bit 0x1000"),
        (nft_chain('xt target "MARK"', hook=FORWARD), "writes bit 0x1000"),
        (nft_chain("meta mark & 0x00001000 == 0x00001000 drop", hook=FORWARD), "asks for bit 0x1000"),
        (nft_chain("meta mark 0x00001000 drop", hook=FORWARD), "asks for bit 0x1000"),
    ],
)  # fmt: skip
def test_what_concerns_sandboxes_is_found(listing: str, expected: str | None) -> None:
    observed = [text for _, _, text in found(listing)]
    assert len(observed) == (expected is not None), observed
    assert all(expected in text for text in observed if expected)


@pytest.mark.parametrize(
    "listing",
    [
        "",
        nft_chain("drop", hook=DROPS, table="cellwall"),
        nft_chain(hook=FORWARD),
        nft_chain(*BOTH, hook=DROPS),
        nft_chain("accept", hook=DROPS),
        nft_chain("counter jump B9-FORWARD", hook=DROPS, table="filter", name="FORWARD"),
        nft_chain(*BOTH, 'iifname "b9_br0" reject', hook=FORWARD, table="firewalld", family="inet"),
        nft_chain("ct state { established, related } accept", "ct status dnat accept", BOTH[0], "reject", hook=FORWARD),
        nft_chain('iifname { "br1", "b9_br0" } accept', 'oifname "b9*" accept', hook=DROPS),
        nft_chain('iifname vmap { "br1" : drop, "b9_br0" : accept }', BOTH[1], hook=DROPS),
        nft_chain("counter jump DOCKER-USER", hook=DROPS, more=DOCKER_USER),
        nft_chain('iifname "b9_br0" jump x', 'oifname "b9_br0" jump x', hook=DROPS, more=X),
        nft_chain(hook=DROPS.replace("forward", "input")),
        nft_chain("drop", name="unreached"),
        nft_chain('iifname "docker0" drop', "ip saddr 10.0.0.0/8 drop", hook=FORWARD),
        nft_chain('iifname "eth7" notrack', hook=FIRST),
        nft_chain("fib daddr type local dnat to 10.0.0.1", hook=DNAT),
        nft_chain("meta l4proto tcp tproxy to :15001", hook=FIRST.replace("raw - 10", "-100")),
        nft_chain("meta mark set meta mark | 0x00004000", "meta mark & 0x00008000 == 0x00008000 drop", hook=FORWARD),
        nft_chain('iifname "wg0" meta mark set 0x00000005', "meta mark 0x0000ca6c accept", hook=FORWARD),
        nft_chain("ct mark & 0x00001000 == 0x00001000 accept", hook=FORWARD),
        nft_chain("ct mark set 0x00000001", name="unreached"),
    ],
)  # fmt: skip
def test_what_does_not_concern_sandboxes_is_left_alone(listing: str) -> None:
    assert found(listing) == []


def test_a_remedy_is_the_walls_own_accept_or_the_commands_of_the_program_that_drops() -> None:
    def remedy(listing: str) -> str:
        chains, _ = parse_nft(listing, ours=OURS)
        (one,) = diagnose(msgspec.structs.replace(HOST, chains=chains), Settings())[:1]
        return one.remedy

    for family in ("ip", "ip6"):
        assert "cellwall up" in remedy(nft_chain(hook=DROPS, table="filter", name="FORWARD", family=family))
    told = remedy(nft_chain("reject", hook=FORWARD, table="firewalld", family="inet"))
    assert "firewall-cmd --permanent --zone=cellwall --add-interface=b9_br0;" in told
    assert remedy(nft_chain(hook=DROPS)) == "let it accept what comes from and goes to b9_br0"


FLOWTABLE = (
    "table inet fast {{\n\tflowtable f {{\n\t\thook ingress priority filter\n\t\tdevices = {{ {devices} }}\n\t}}\n\n"
    "\tchain c {{\n\t\t{hook}\n\t\t{rule}\n\t}}\n}}"
)


@pytest.mark.parametrize(
    ("devices", "rule", "through"),
    [
        ('"eth0", "eth1"', "meta l4proto tcp flow add @f", True),
        ('"b9_br0"', "flow add @f", True),
        ('"eth1", "eth2"', "flow add @f", False),
        ('"eth0"', "accept", False),
    ],
)
def test_a_flow_table_that_takes_sandboxes_flows_past_the_wall_is_an_error(
    devices: str, rule: str, through: bool
) -> None:
    listing = FLOWTABLE.format(devices=devices, hook=FORWARD, rule=rule)
    assert [one[:2] for one in found(listing)] == [("error", "flow table")] * through


LEGACY = """\
*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:MARKS - [0:0]
-A PREROUTING -j MARKS
-A MARKS -j MARK --set-xmark 0x1000/0x1000
-A MARKS -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A FORWARD -m mark --mark 0x1000/0x1000 -j RETURN
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING ! -i docker0 -j CT --notrack
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:B9-FORWARD - [0:0]
-A FORWARD -j B9-FORWARD
-A FORWARD -i b9_br0 -j ACCEPT
-A FORWARD -o b9_br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A B9-FORWARD -i b9_br0 -j DROP
COMMIT
"""


def test_rules_of_iptables_legacy_are_read_too() -> None:
    observed = " ".join(text for _, _, text in found("", legacy=LEGACY))
    for text in ("writes bit", "asks for bit", "writes conntrack marks", "out of connection tracking"):
        assert text in observed
    assert "B9-FORWARD" not in observed
    assert "drops by default" not in observed  # the wall is in it
    unwalled = LEGACY.replace("-A FORWARD -j B9-FORWARD\n", "")
    assert any("accepts nothing that goes to b9_br0" in text for _, _, text in found("", legacy=unwalled))
    harmless = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i b9+ -j ACCEPT\n-A FORWARD -o b9_br0 -j ACCEPT\nCOMMIT\n"
    assert found("", legacy=harmless) == []
    assert (
        found("", legacy="*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j MARK --set-xmark 0x4000/0x4000\nCOMMIT\n") == []
    )


@pytest.mark.parametrize(
    ("value", "mask", "overlaps"),
    [
        (0x1000, 0x1000, True),
        (0x0, 0x3000, True),
        (0x1005, 0xFFFFFFFF, True),
        (0xCA6C & ~0x1000, 0xFFFFFFFF, False),
        (0x4000, 0x4000, False),
    ],
)
def test_a_routing_rule_that_asks_for_the_walls_bit_is_found(value: int, mask: int, overlaps: bool) -> None:
    host = msgspec.structs.replace(HOST, mark_routes=(MarkRoute(value, mask, "100: …"),))
    assert [one.subject for one in diagnose(host, Settings()) if one.severity != "note"] == ["node.mark"] * overlaps


def test_priorities_are_read_by_name_and_by_number() -> None:
    spelled = {"filter": 0, "raw - 10": -310, "mangle + 5": -145, "-450": -450, "17": 17}
    for text, number in spelled.items():
        (chain,), _ = parse_nft(nft_chain(hook=f"type filter hook forward priority {text}; policy accept;"), ours=OURS)
        assert (chain.hook, chain.priority, chain.drops) == ("forward", number, False)
    hook = "type filter hook prerouting priority dstnat; policy drop;"
    (bridge,), _ = parse_nft(nft_chain(hook=hook, family="bridge"), ours=OURS)
    assert (bridge.priority, bridge.drops) == (-300, True)


def test_sets_and_wrapped_lines_are_no_rules() -> None:
    listing = (
        "table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1,\n\t\t\t     10.0.0.2 }\n\t}\n\n"
        f'\tchain c {{\n\t\t{FORWARD}\n\t\tiifname {{ "a",\n\t\t\t   "b9_br0" }} drop\n\t}}\n}}'
    )
    (chain,), _ = parse_nft(listing, ours=OURS)
    assert [(rule.enters, rule.verdict) for rule in chain.rules] == [(("a", "b9_br0"), "drop")]
    assert isinstance(chain, Chain)
