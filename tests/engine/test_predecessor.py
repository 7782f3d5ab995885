"""What becomes of the traces of beta9's networking, decided without a node that has them."""

from ipaddress import IPv4Address, ip_address

import msgspec
import pytest

from cellwall.engine.predecessor.containers import Adoption, decide
from cellwall.engine.predecessor.former_rules import removals
from cellwall.engine.predecessor.remains import InnerEnd, OldPort, OldRule, Remains
from cellwall.model.endpoint import PortBinding
from cellwall.model.network import default_mac
from cellwall.model.policy import NO_TIERS, OPEN, Policy
from cellwall.model.settings import Settings

GATEWAY = ip_address("192.168.0.1")


def port(number: int, *addresses: str, name: str = "", mac: int = 0) -> OldPort:
    inner = InnerEnd(
        netns=f"/run/netns/job-{number}",
        device=4,
        inode=1000 + number,
        ifname="eth0",
        mac=mac or 0x020000000000 + number,
        addresses=tuple(ip_address(address) for address in addresses),
    )
    return OldPort(number, name or f"b9h{number:05x}", inner)


def dnat(host_port: int, to: str, comment: str, *, program: str = "iptables-nft", protocol: str = "tcp") -> OldRule:
    text = (
        f"-p {protocol} -m {protocol} --dport {host_port} -m comment --comment {comment} -j DNAT --to-destination {to}"
    )
    return OldRule(program, "nat", "PREROUTING", text)


def forward(text: str) -> OldRule:
    return OldRule("iptables-nft", "filter", "FORWARD", text)


def decided(*ports: OldPort, rules: tuple[OldRule, ...] = (), settings: Settings | None = None) -> Adoption:
    adoption = decide(Remains((GATEWAY,), ports, rules), settings or Settings())
    assert adoption is not None
    return adoption


def test_a_container_is_known_by_its_rule_or_else_by_its_namespace() -> None:
    named = dnat(30000, "192.168.0.2:80", '"b9h00002:web-7:job-2"')
    bare = dnat(30001, "192.168.0.2:81", "b9h00002:web-7")
    web, job = decided(port(2, "192.168.0.2"), port(3, "192.168.0.3"), rules=(named, bare)).endpoints
    assert (web.key.container_id, job.key.container_id) == ("web-7", "job-3")
    assert web.bindings == (PortBinding("tcp", 30000, 80), PortBinding("tcp", 30001, 81))
    assert (web.host_link, str(web.address6), job.bindings) == ("b9h00002", "fd00:abcd::2", ())


def test_a_link_that_the_rules_would_not_know_gets_another_name() -> None:
    (endpoint,) = decided(port(2, "192.168.0.2", name="b9_veth_h_abcde")).endpoints
    assert endpoint.host_link.startswith("b9h")
    assert len(endpoint.host_link) == 15


def test_an_address_that_two_claim_is_of_whom_a_rule_leads_to() -> None:
    """Whoever is root inside chooses what the interface says; the node's rules are not a sandbox's to write."""
    rules = (dnat(30000, "192.168.0.9:80", "b9h00009:victim"),)
    adoption = decided(port(2, "192.168.0.9"), port(9, "192.168.0.9"), rules=rules)
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["victim"]
    assert [port.name for port in adoption.closed] == ["b9h00002"]


def test_an_address_that_a_rule_leads_to_is_not_anothers_to_take() -> None:
    """Also where the one it leads to says nothing of it."""
    rules = (dnat(30000, "192.168.0.9:80", "b9h00009:victim"),)
    for victim in (port(9, "192.168.0.10"), port(9), OldPort(9, "b9h00009")):
        adoption = decided(port(2, "192.168.0.9"), victim, rules=rules)
        assert "b9h00002" in [port.name for port in adoption.closed]


def test_a_rule_that_leads_to_nobody_any_more_keeps_its_address_for_nobody() -> None:
    adoption = decided(port(2, "192.168.0.9"), rules=(dnat(30000, "192.168.0.9:80", "b9h00009:gone"),))
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["job-2"]


def test_an_address_that_two_claim_and_no_rule_leads_to_is_nobodys() -> None:
    adoption = decided(port(2, "192.168.0.9"), port(9, "192.168.0.9"), port(10, "192.168.0.10", "192.168.0.9"))
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["job-10"]
    assert [port.name for port in adoption.closed] == ["b9h00002", "b9h00009"]


VICTIM = port(2, "192.168.0.2")


@pytest.mark.parametrize(
    "mac",
    [0x020000000002, default_mac(IPv4Address("192.168.0.2")), Settings().network.bridge_mac, 0x01005E000001],
    ids=["a neighbour's", "what a neighbour would get", "the gateway's", "a group's"],
)
def test_who_takes_a_mac_that_is_not_its_own_shuts_nobody_out(mac: int) -> None:
    """A neighbour with that MAC, and the one who took it, get those that an attach would give."""
    own, usual = VICTIM.inner.mac if VICTIM.inner else 0, default_mac(IPv4Address("192.168.0.2"))
    for thief in (port(1, "192.168.0.7", mac=mac), port(7, "192.168.0.7", mac=mac)):
        victim, other = sorted(decided(VICTIM, thief).endpoints, key=lambda endpoint: endpoint.address4)
        assert victim.mac == (usual if mac == own else own)
        assert other.mac == default_mac(IPv4Address("192.168.0.7"))


def test_a_published_port_lends_its_container_no_other_address() -> None:
    rules = (dnat(30000, "192.168.0.2:80", "b9h00002:thief"), dnat(30001, "192.168.0.9:80", "b9h00009:victim"))
    adoption = decided(port(2, "192.168.0.9"), port(9, "192.168.0.9"), rules=rules)
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["victim"]


def test_of_several_addresses_it_is_the_one_that_a_rule_leads_to() -> None:
    rules = (dnat(30000, "192.168.0.9:80", "b9h00009:web"),)
    (endpoint,) = decided(port(9, "192.168.0.3", "fe80::1", "192.168.0.9"), rules=rules).endpoints
    assert str(endpoint.address4) == "192.168.0.9"


@pytest.mark.parametrize(
    "hopeless",
    [
        OldPort(7, "b9h00007"),
        port(7),
        port(7, "10.0.0.7", "fd00:abcd::7"),
        port(7, "192.168.0.1"),
        port(7, "192.168.15.255"),
        port(7, "192.168.0.2", "192.168.0.7"),
    ],
    ids=[
        "no namespace",
        "no address",
        "foreign address",
        "gateway",
        "broadcast",
        "taken",
    ],
)
def test_what_cannot_be_an_endpoint_stays_closed(hopeless: OldPort) -> None:
    known = dnat(30000, "192.168.0.2:80", "b9h00002:web")
    adoption = decided(port(2, "192.168.0.2"), hopeless, rules=(known,))
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["web"]
    assert [(port.index, port.name) for port in adoption.closed] == [(7, "b9h00007")]


def test_a_port_that_the_wall_cannot_publish_is_told() -> None:
    rules = (dnat(10300, "192.168.0.2:80", "b9h00002:web"), dnat(30000, "192.168.0.2:80", "b9h00002:web"))
    adoption = decided(port(2, "192.168.0.2"), rules=rules)
    assert adoption.endpoints[0].bindings == (PortBinding("tcp", 30000, 80),)
    assert adoption.warnings == ("web/eth0: 10300:80/tcp is not taken over",)


def test_a_port_of_the_node_that_rules_lead_to_two_places_is_the_first_ones() -> None:
    """As it was: the kernel never met the second rule."""
    rules = (
        dnat(30000, "192.168.0.3:80", "b9h00003:job"),
        dnat(30000, "192.168.0.2:80", "b9h00002:web"),
        dnat(30000, "192.168.0.3:81", "b9h00003:job"),
        dnat(30001, "192.168.0.2:81", "b9h00002:web"),
    )
    adoption = decided(port(2, "192.168.0.2"), port(3, "192.168.0.3"), rules=rules)
    web, job = adoption.endpoints
    assert (web.bindings, job.bindings) == ((PortBinding("tcp", 30001, 81),), (PortBinding("tcp", 30000, 80),))
    assert adoption.warnings == (
        "web/eth0: 30000:80/tcp is not taken over",
        "job/eth0: 30000:81/tcp is not taken over",
    )


def test_a_rule_that_leads_to_nobody_keeps_a_port_from_nobody() -> None:
    rules = (dnat(30000, "192.168.0.9:80", "b9h00009:gone"), dnat(30000, "192.168.0.2:80", "b9h00002:web"))
    (web,) = decided(port(2, "192.168.0.2"), rules=rules).endpoints
    assert web.bindings == (PortBinding("tcp", 30000, 80),)


def test_of_two_ports_that_would_be_one_endpoint_the_other_stays_closed() -> None:
    rules = (dnat(30000, "192.168.0.2:80", "b9h00002:web"), dnat(30001, "192.168.0.3:80", "b9h00003:web"))
    adoption = decided(port(2, "192.168.0.2"), port(3, "192.168.0.3"), rules=rules)
    assert [str(endpoint.address4) for endpoint in adoption.endpoints] == ["192.168.0.2"]
    assert [port.name for port in adoption.closed] == ["b9h00003"]


def test_a_rule_that_only_speaks_of_the_bridge_is_no_evidence() -> None:
    foreign = (port(2, "192.168.0.2", name="tap0"),)
    for text in ("! -i b9_br0 -j ACCEPT", "-i b9_br0 -p tcp -j ACCEPT", "-i b9_br0 -o b9_br0 -j ACCEPT"):
        assert decide(Remains((GATEWAY,), foreign, (forward(text),)), Settings()) is None


def test_a_bridge_of_somebody_elses_is_left_alone() -> None:
    ports, rules = (port(2, "192.168.0.2"),), (forward("-i b9_br0 -o eth0 -j ACCEPT"),)
    foreign = msgspec.structs.replace(ports[0], name="tap0")
    assert decide(Remains((), ports, rules), Settings()) is None
    assert decide(Remains((ip_address("10.0.0.1"),), ports, rules), Settings()) is None
    assert decide(Remains((GATEWAY,), (foreign,), ()), Settings()) is None
    assert decide(Remains((GATEWAY,), (foreign,), rules), Settings()) is not None
    assert decide(Remains((GATEWAY,), ports, ()), Settings()) is not None


STATES = "-m conntrack ! --ctstate RELATED,ESTABLISHED"
NOTE = '-m comment --comment "b9h00002:web:web"'


def policy_by(*texts: str) -> Policy:
    """Of the container at 192.168.0.2, by rules of FORWARD."""
    (endpoint,) = decided(port(2, "192.168.0.2"), rules=tuple(map(forward, texts))).endpoints
    return endpoint.tiers.endpoint


@pytest.mark.parametrize("note", ["", f"{NOTE} "])
def test_a_container_that_was_kept_from_the_network_opens_nothing(note: str) -> None:
    assert policy_by(f"-s 192.168.0.2/32 -o eth0 {STATES} {note}-j DROP") == Policy(mode="block")
    assert policy_by(f"-s fd00:abcd::2/128 -o eth0 {STATES} {note}-j DROP") == Policy(mode="block")
    assert policy_by(f"-s 192.168.0.3/32 -o eth0 {STATES} {note}-j DROP") == OPEN


def test_what_a_policy_stands_in_for_is_not_told() -> None:
    rule = forward(f"-s 192.168.0.2/32 -o eth0 {STATES} {NOTE} -j DROP")
    assert decided(port(2, "192.168.0.2"), rules=(rule,)).warnings == ()
    elsewhere = msgspec.structs.replace(rule, chain="OUTPUT")
    assert decided(port(2, "192.168.0.2"), rules=(elsewhere,)).endpoints[0].tiers == NO_TIERS


def test_a_container_with_a_list_opens_what_is_on_it() -> None:
    """Each network once, the widest first; what the floor denies whole is no allowance."""
    blocked = f"-s 192.168.0.2/32 -o eth0 {STATES} {NOTE} -j DROP"
    allowed = [f"-s 192.168.0.2/32 -d {net} -o eth0 {NOTE} -j ACCEPT" for net in ("1.1.1.1/32", "8.8.0.0/16")]
    others = [f"-s 192.168.0.2/32 -d {net} -o eth0 {NOTE} -j ACCEPT" for net in ("8.8.8.8/32", "169.254.169.254/32")]
    six = f"-s fd00:abcd::2/128 -d 2606:4700::/32 -o eth0 {NOTE} -j ACCEPT"
    policy = policy_by(*others, *allowed, six, blocked)
    assert (policy.mode, [str(rule) for rule in policy.rules]) == (
        "allow",
        ["allow 8.8.0.0/16", "allow 1.1.1.1/32", "allow 2606:4700::/32"],
    )
    assert policy_by(*allowed) == OPEN
    assert policy_by(others[1], blocked) == Policy(mode="block")
    assert [str(rule) for rule in policy_by(f"-s 192.168.0.2/32 -o eth0 {NOTE} -j ACCEPT", blocked).rules] == [
        "allow 0.0.0.0/0"
    ]


def test_what_an_operator_denies_a_container_is_no_policy_and_is_told() -> None:
    for text in (
        "-s 192.168.0.2/32 -o eth0 -j DROP",
        f"-s 192.168.0.2/32 -o eth0 -p tcp {STATES} -j DROP",
        f"-s 192.168.0.0/24 -o eth0 {STATES} -j DROP",
    ):
        assert policy_by(text) == OPEN
    adoption = decided(port(2, "192.168.0.2"), rules=(forward("-s 192.168.0.2/32 -o eth0 -j DROP"),))
    assert "still has `-s 192.168.0.2/32 -o eth0 -j DROP`" in adoption.warnings[0]


SIGNED = '-m comment --comment "b9h00002:web:web"'
REPLACED = (
    forward("-i b9_br0 -o eth0 -j ACCEPT"),
    forward("-i eth0 -o b9_br0 -j ACCEPT"),
    forward("-d 192.168.0.2/32 -p tcp -m tcp --dport 80 -m comment --comment b9_veth_h_1:web -j ACCEPT"),
    forward(f"-s 192.168.0.2/32 -d 10.1.0.0/16 -o eth0 {SIGNED} -j ACCEPT"),
    forward(f"-s 192.168.0.2/32 -o eth0 {SIGNED} -j ACCEPT"),
    dnat(30000, "192.168.0.2:80", "b9h00002:web"),
    dnat(30000, "[fd00:abcd::2]:80", "b9h00002:web", program="ip6tables-nft"),
    OldRule("iptables-nft", "nat", "POSTROUTING", "-s 192.168.1.0/24 -o eth0 -j MASQUERADE"),
    OldRule("iptables-nft", "nat", "POSTROUTING", "-s 192.168.0.0/20 -o eth0 -j MASQUERADE"),
    OldRule("ip6tables-nft", "nat", "POSTROUTING", "-s fd00:abcd::/64 -o eth0 -j MASQUERADE"),
)
KEPT = (
    *map(
        forward,
        (
            "-i docker0 -o eth0 -j ACCEPT",
            "! -i b9_br0 -o eth0 -j ACCEPT",
            "-i eth0 ! -o b9_br0 -j ACCEPT",
            "-i b9_br0 -o wg0 -j ACCEPT",
            "-i b9_br0 -j ACCEPT",
            "-i b9_br0 -m connmark ! --mark 0x0 -m comment --comment cellwall -j ACCEPT",
            "-s 10.9.0.0/16 -i eth0 -o b9_br0 -p tcp -m tcp --dport 22 -j ACCEPT",
            "-i b9_br0 -o eth0 -m comment --comment b9host:mine -j ACCEPT",
            "-s 192.168.0.2/32 -o eth0 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",
            f"-s 192.168.0.2/32 -o eth0 -m conntrack ! --ctstate RELATED,ESTABLISHED {SIGNED} -j DROP",
        ),
    ),
    *(
        OldRule("iptables-nft", "nat", "POSTROUTING", text)
        for text in (
            "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
            "-s 192.168.0.0/20 -o wg0 -j MASQUERADE",
            "-s 192.168.0.0/20 -o eth0 -m comment --comment vpn -j MASQUERADE",
            "-s 192.168.0.7/32 -o eth0 -j MASQUERADE",
            "-s 192.168.0.0/20 ! -o eth0 -j MASQUERADE",
            "-s 10.0.0.1/255.0.255.0 -o eth0 -j MASQUERADE",
        )
    ),
    OldRule("iptables-nft", "nat", "PREROUTING", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80"),
    dnat(30000, "fd00:abcd::2", "b9h00002:web", program="ip6tables-nft"),
    dnat(30000, "192.168.0.2:80-90", "b9h00002:web"),
    OldRule("iptables-nft", "filter", "INPUT", "-i b9_br0 -j ACCEPT"),
)


def removed(*rules: OldRule, chain: bool = True) -> list[str]:
    return [removal.line for removal in removals(rules, "b9_br0", "eth0", chain=chain)]


def test_only_what_the_wall_replaces_is_removed() -> None:
    lines = removals((*REPLACED, *KEPT), "b9_br0", "eth0", chain=True)
    assert [line.line for line in lines] == [f"-D {rule.chain} {rule.text}" for rule in REPLACED]
    assert {line.program for line in lines} == {"iptables-nft", "ip6tables-nft"}


def test_a_rule_in_another_chain_publishes_nothing() -> None:
    rule = msgspec.structs.replace(dnat(30000, "192.168.0.2:80", "b9h00002:web"), chain="OUTPUT")
    assert decided(port(2, "192.168.0.2"), rules=(rule,)).endpoints[0].bindings == ()


def test_what_publishes_no_single_port_publishes_none() -> None:
    assert decided(port(2, "192.168.0.2"), rules=KEPT).endpoints[0].bindings == ()


CHAIN = (forward("-j B9-FORWARD"), OldRule("iptables-nft", "filter", "B9-FORWARD", "-i b9_br0 -j DROP"))


def test_a_security_chain_of_beta9s_goes_but_not_one_of_ours() -> None:
    assert removed(*CHAIN) == ["-D FORWARD -j B9-FORWARD", "-F B9-FORWARD", "-X B9-FORWARD"]
    assert removed(*CHAIN, chain=False) == []


def test_a_chain_that_somebody_elses_rule_leads_to_stays() -> None:
    """It could not be deleted, and every `up` would fail at it."""
    for rule in (
        OldRule("iptables-nft", "filter", "INPUT", "-i b9_br0 -j B9-FORWARD"),
        forward("-p tcp -g B9-FORWARD"),
    ):
        assert removed(*CHAIN, rule) == []
    assert len(removed(*CHAIN, OldRule("ip6tables-nft", "filter", "INPUT", "-j B9-FORWARD"))) == 3
