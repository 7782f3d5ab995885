"""Every address of a lab, as data.

Owns: who has which address in the lab, and one address per row of the tables of special-purpose ranges
(IANA's registries for RFC 6890, and the clouds' metadata services). All of them exist only inside
namespaces of the lab. An address that Linux cannot own or route (loopback on the wire, multicast) is listed
apart: a probe can aim at it, but only a capture can tell what became of the packet.
"""

from collections.abc import Mapping

SEGMENT4 = "93.184.216.0/24"
SEGMENT6 = "2606:2800:220:1::/64"
INTERNET4, INTERNET6 = "93.184.216.1", "2606:2800:220:1::1"
GATEWAY4, GATEWAY6 = INTERNET4, INTERNET6
NODE4, NODE6 = "93.184.216.10", "2606:2800:220:1::10"
LAN4, LAN6 = "93.184.216.20", "2606:2800:220:1::20"

INFRA_NET4, INFRA_NET6 = "172.20.0.0/24", "fd00:20::/64"
NODE_INFRA4, NODE_INFRA6 = "172.20.0.10", "fd00:20::10"
INFRA4, INFRA6 = "172.20.0.20", "fd00:20::20"

OTHER_NET4, OTHER_NET6 = "172.17.0.0/16", "fd00:17::/64"
NODE_OTHER4, NODE_OTHER6 = "172.17.0.1", "fd00:17::1"
OTHER4, OTHER6 = "172.17.0.2", "fd00:17::2"

NODE, LAN = {4: NODE4, 6: NODE6}, {4: LAN4, 6: LAN6}
NODE_INFRA, INFRA = {4: NODE_INFRA4, 6: NODE_INFRA6}, {4: INFRA4, 6: INFRA6}
NODE_OTHER, OTHER = {4: NODE_OTHER4, 6: NODE_OTHER6}, {4: OTHER4, 6: OTHER6}
"""By family: the node on each of its sides, and who else is on them."""

AROUND: Mapping[str, Mapping[int, str]] = {
    "node": NODE,
    "node-infra": NODE_INFRA,
    "node-other-bridge": NODE_OTHER,
    "lan": LAN,
    "infra": INFRA,
    "other-bridge": OTHER,
}
"""What is around a sandbox and not for it, by name and family."""

PUBLIC4 = ("1.1.1.1", "8.8.8.8", "151.101.1.69")
PUBLIC6 = ("2606:4700:4700::1111", "2001:4860:4860::8888", "2a04:4e42::1")
RESOLVERS4 = ("1.1.1.1", "8.8.8.8")
RESOLVERS6 = ("2606:4700:4700::1111", "2001:4860:4860::8888")

NAMED4, NAMED6 = "151.101.1.69", "2a04:4e42::1"
ZONE = "test"
"""Below which every name has these addresses, as the lab's resolvers answer."""

METADATA4: Mapping[str, str] = {
    "all clouds": "169.254.169.254",
    "AWS ECS": "169.254.170.2",
    "AWS EKS": "169.254.170.23",
    "Azure": "168.63.129.16",
    "Alibaba": "100.100.100.200",
    "Oracle": "192.0.0.192",
    "Scaleway": "169.254.42.42",
}
METADATA6: Mapping[str, str] = {
    "AWS": "fd00:ec2::254",
    "AWS EKS": "fd00:ec2::23",
    "GCP": "fd20:ce::254",
    "Scaleway": "fd00:42::42",
}

SPECIAL4: Mapping[str, str] = {
    "0.0.0.0/8": "0.1.2.3",  # unicast for Linux since 5.3
    "10.0.0.0/8": "10.0.0.5",
    "100.64.0.0/10": "100.64.0.9",
    "169.254.0.0/16": "169.254.9.9",
    "172.16.0.0/12": "172.16.9.9",
    "192.0.0.0/24": "192.0.0.9",
    "192.0.2.0/24": "192.0.2.9",
    "192.31.196.0/24": "192.31.196.9",
    "192.52.193.0/24": "192.52.193.9",
    "192.88.99.0/24": "192.88.99.9",
    "192.168.0.0/16": "192.168.200.7",
    "192.175.48.0/24": "192.175.48.9",
    "198.18.0.0/15": "198.18.0.9",
    "198.51.100.0/24": "198.51.100.9",
    "203.0.113.0/24": "203.0.113.9",
    "240.0.0.0/4": "240.0.0.9",
}
SPECIAL6: Mapping[str, str] = {
    "::/96": "::a9fe:a9fe",  # v4-compatible 169.254.169.254
    "64:ff9b::/96": "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::/48": "64:ff9b:1::9",
    "100::/64": "100::9",
    "2001::/32": "2001::9",
    "2001::/23": "2001:1ff::9",
    "2001:db8::/32": "2001:db8::9",
    "2002::/16": "2002::9",
    "2620:4f:8000::/48": "2620:4f:8000::9",
    "3fff::/20": "3fff::9",
    "4000::/2": "4000::9",
    "5f00::/16": "5f00::9",
    "8000::/1": "8000::9",
    "fc00::/7": "fc00:9::9",
    "fec0::/10": "fec0::9",
}
"""Range → an address of it that the lab's Internet owns and answers from."""

UNOWNED4: Mapping[str, str] = {
    "127.0.0.0/8": "127.0.0.9",
    "224.0.0.0/4": "224.0.0.9",
    "255.255.255.255/32": "255.255.255.255",
}
UNOWNED6: Mapping[str, str] = {
    "::/128": "::",
    "::1/128": "::1",
    "::ffff:0:0/96": "::ffff:169.254.169.254",
    "fe80::/10": "fe80::a9fe:a9fe",
    "ff00::/8": "ff02::9",
}
"""Ranges whose addresses no host on the wire can own."""

INTERNET_LO4 = (*PUBLIC4, *METADATA4.values(), *SPECIAL4.values())
INTERNET_LO6 = (*PUBLIC6, *METADATA6.values(), *SPECIAL6.values())
