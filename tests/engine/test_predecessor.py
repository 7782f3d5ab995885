"""What becomes of the traces of beta9's networking, decided without a node that has them."""

from ipaddress import ip_address

import msgspec
import pytest

from cellwall.engine.predecessor import Adoption, InnerEnd, OldPort, OldRule, Remains, decide, removals
from cellwall.model.endpoint import PortBinding
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
    assert [warning.split()[0] for warning in adoption.warnings] == ["b9h00002"]


def test_an_address_that_two_claim_and_no_rule_leads_to_is_nobodys() -> None:
    adoption = decided(port(2, "192.168.0.9"), port(9, "192.168.0.9"), port(10, "192.168.0.10", "192.168.0.9"))
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["job-10"]
    assert [warning.split()[0] for warning in adoption.warnings] == ["b9h00002", "b9h00009"]


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
        port(7, "192.168.0.7", mac=0x020000000002),
        port(7, "192.168.0.7", mac=0x01005E000001),
        port(7, "192.168.0.7", mac=Settings().network.bridge_mac),
    ],
    ids=[
        "no namespace",
        "no address",
        "foreign address",
        "gateway",
        "broadcast",
        "taken",
        "MAC taken",
        "group",
        "ours",
    ],
)
def test_what_cannot_be_an_endpoint_stays_closed(hopeless: OldPort) -> None:
    known = dnat(30000, "192.168.0.2:80", "b9h00002:web")
    adoption = decided(port(2, "192.168.0.2"), hopeless, rules=(known,))
    assert [endpoint.key.container_id for endpoint in adoption.endpoints] == ["web"]
    assert [warning.split(":")[0] for warning in adoption.warnings] == ["b9h00007 stays closed"]


def test_a_port_that_the_wall_cannot_publish_is_told() -> None:
    rules = (dnat(10300, "192.168.0.2:80", "b9h00002:web"), dnat(30000, "192.168.0.2:80", "b9h00002:web"))
    adoption = decided(port(2, "192.168.0.2"), rules=rules)
    assert adoption.endpoints[0].bindings == (PortBinding("tcp", 30000, 80),)
    assert adoption.warnings == ("web/eth0: 10300:80/tcp is not taken over",)


def test_a_bridge_of_somebody_elses_is_left_alone() -> None:
    ports, rules = (port(2, "192.168.0.2"),), (forward("-i b9_br0 -o eth0 -j ACCEPT"),)
    foreign = msgspec.structs.replace(ports[0], name="tap0")
    assert decide(Remains((), ports, rules), Settings()) is None
    assert decide(Remains((ip_address("10.0.0.1"),), ports, rules), Settings()) is None
    assert decide(Remains((GATEWAY,), (foreign,), ()), Settings()) is None
    assert decide(Remains((GATEWAY,), (foreign,), rules), Settings()) is not None
    assert decide(Remains((GATEWAY,), ports, ()), Settings()) is not None


MASQUERADE = "-s 192.168.1.0/24 -o eth0 -j MASQUERADE"
REPLACED = (
    forward("-i b9_br0 -o eth0 -j ACCEPT"),
    forward("-i eth0 -o b9_br0 -j ACCEPT"),
    forward("-d 192.168.0.2/32 -p tcp -m tcp --dport 80 -m comment --comment b9_veth_h_1:web -j ACCEPT"),
    dnat(30000, "192.168.0.2:80", "b9h00002:web"),
    dnat(30000, "[fd00:abcd::2]:80", "b9h00002:web", program="ip6tables-nft"),
    OldRule("iptables-nft", "nat", "POSTROUTING", MASQUERADE),
    OldRule("ip6tables-nft", "nat", "POSTROUTING", "-s fd00:abcd::/64 -o eth0 -j MASQUERADE"),
)
KEPT = (
    forward("-i docker0 -o eth0 -j ACCEPT"),
    forward("-i b9_br0 -m connmark ! --mark 0x0 -m comment --comment cellwall -j ACCEPT"),
    forward("-s 192.168.0.2/32 -o eth0 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"),
    OldRule("iptables-nft", "nat", "POSTROUTING", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"),
    OldRule("iptables-nft", "nat", "PREROUTING", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80"),
    OldRule("iptables-nft", "filter", "INPUT", "-i b9_br0 -j ACCEPT"),
)


def test_only_what_the_wall_replaces_is_removed() -> None:
    network = Settings().network
    lines = removals((*REPLACED, *KEPT), network, chain=True)
    assert [line.line for line in lines] == [f"-D {rule.chain} {rule.text}" for rule in REPLACED]
    assert {line.program for line in lines} == {"iptables-nft", "ip6tables-nft"}


def test_a_security_chain_of_beta9s_goes_but_not_one_of_ours() -> None:
    network = Settings().network
    rules = (forward("-j B9-FORWARD"), OldRule("iptables-nft", "filter", "B9-FORWARD", "-i b9_br0 -j DROP"))
    lines = [removal.line for removal in removals(rules, network, chain=True)]
    assert lines == ["-D FORWARD -j B9-FORWARD", "-F B9-FORWARD", "-X B9-FORWARD"]
    assert removals(rules, network, chain=False) == ()
