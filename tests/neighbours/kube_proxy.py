"""The rules of kube-proxy for one service with one endpoint, in each of its flavours and both families.

Written after its documentation: chains KUBE-* in `nat` and `filter` of iptables (kubernetes.io, "Virtual IPs and
Service Proxies"), or a table `kube-proxy` of nftables (pkg/proxy/nftables/README.md: translation at dstnat and srcnat,
checks at filter). The endpoint is a host behind the node's second card; the service has a cluster address, a node port
and an external address.
"""

from typing import NamedTuple

from cellwall.lab import Lab
from cellwall.lab.addresses import INFRA4, INFRA6, NODE4, NODE6

NODE_PORT = 30080


class Family(NamedTuple):
    """What differs between the families."""

    ip: str
    iptables: str
    cluster: str
    cluster_net: str
    external: str
    node: str
    endpoint: str
    loopback: str

    @property
    def target(self) -> str:
        return f"[{self.endpoint}]:80" if ":" in self.endpoint else f"{self.endpoint}:80"


FOUR = Family("ip", "iptables", "10.96.0.10", "10.96.0.0/16", "8.8.4.4", NODE4, INFRA4, "127.0.0.0/8")
SIX = Family("ip6", "ip6tables", "fd00:96::10", "fd00:96::/112", "2001:4860:4860::8844", NODE6, INFRA6, "::1/128")
FAMILIES = (FOUR, SIX)

_NAT = """*nat
:KUBE-SERVICES -
:KUBE-NODEPORTS -
:KUBE-POSTROUTING -
:KUBE-MARK-MASQ -
:KUBE-SVC-WEB -
:KUBE-EXT-WEB -
:KUBE-SEP-WEB -
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d {0.cluster} -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -d {0.external} -p tcp -m tcp --dport 80 -j KUBE-EXT-WEB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport {1} -j KUBE-EXT-WEB
-A KUBE-EXT-WEB -j KUBE-MARK-MASQ
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-SVC-WEB -j KUBE-SEP-WEB
-A KUBE-SEP-WEB -s {0.endpoint} -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB -p tcp -m tcp -j DNAT --to-destination {0.target}
COMMIT
*filter
:KUBE-FORWARD -
:KUBE-SERVICES -
:KUBE-FIREWALL -
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-FIREWALL ! -s {0.loopback} -d {0.loopback} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""
_JUMPS = {
    "nat": ("PREROUTING -j KUBE-SERVICES", "OUTPUT -j KUBE-SERVICES", "POSTROUTING -j KUBE-POSTROUTING"),
    "filter": (
        "INPUT -j KUBE-FIREWALL",
        "FORWARD -j KUBE-FORWARD",
        "FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
        "OUTPUT -j KUBE-FIREWALL",
    ),
}

_TABLE = """table {0.ip} kube-proxy
delete table {0.ip} kube-proxy
table {0.ip} kube-proxy {{
    set cluster-ips {{ type {2}; elements = {{ {0.cluster} }}; }}
    set nodeport-ips {{ type {2}; elements = {{ {0.node} }}; }}
    chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }}
    chain masquerading {{
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }}
    chain endpoint-web {{
        {0.ip} saddr {0.endpoint} jump mark-for-masquerade
        meta l4proto tcp dnat to {0.target}
    }}
    chain service-web {{ numgen random mod 1 vmap {{ 0 : goto endpoint-web }}; }}
    chain external-web {{ jump mark-for-masquerade; goto service-web; }}
    map service-ips {{
        type {2} . inet_proto . inet_service : verdict
        elements = {{ {0.cluster} . tcp . 80 : goto service-web, {0.external} . tcp . 80 : goto external-web }}
    }}
    map service-nodeports {{
        type inet_proto . inet_service : verdict
        elements = {{ tcp . {1} : goto external-web }}
    }}
    chain services {{
        {0.ip} daddr . meta l4proto . th dport vmap @service-ips
        {0.ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }}
    chain cluster-ips-check {{
        {0.ip} daddr @cluster-ips reject
        {0.ip} daddr {0.cluster_net} drop
    }}
    chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
    chain nat-output {{ type nat hook output priority dstnat; jump services; }}
    chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
    chain filter-forward {{ type filter hook forward priority filter; ct state new jump cluster-ips-check; }}
    chain filter-output {{ type filter hook output priority filter; ct state new jump cluster-ips-check; }}
}}
"""


def sync(lab: Lab, flavour: str) -> None:
    """Bring the rules in, or lay them anew as kube-proxy does whenever it starts and when services change."""
    for family in FAMILIES:
        if flavour == "nftables":
            kind = "ipv4_addr" if family.ip == "ip" else "ipv6_addr"
            lab.node.run(["nft", "-f", "-"], input=_TABLE.format(family, NODE_PORT, kind).encode())
            continue
        text = _NAT.format(family, NODE_PORT).encode()
        lab.node.run([f"{family.iptables}-restore", "--noflush", "--wait"], input=text)
        for table, jumps in _JUMPS.items():
            for jump in jumps:
                argv = [family.iptables, "--wait", "-t", table]
                if lab.node.run([*argv, "-C", *jump.split()], check=False).returncode:
                    lab.node.run([*argv, "-I", *jump.split()])
