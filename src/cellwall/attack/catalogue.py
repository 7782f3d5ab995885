"""The catalogue: every class of attack by row, and the rows that nothing covers yet, with the reason."""

import msgspec


class Row(msgspec.Struct, frozen=True):
    """`missing`: why no probe covers it; `also`: what covers it beside probes, or instead of them."""

    id: str
    title: str
    missing: str = ""
    also: tuple[str, ...] = ()


CATALOGUE: tuple[Row, ...] = (
    Row("A01", "frames straight to another container on the bridge, past the gateway"),
    Row("A02", "packets to another container by way of the gateway, which an isolated bridge port does not stop"),
    Row("A03", "VLAN tags: 802.1Q, priority tags of VLAN 0 also stacked, 802.1ad; the kernel unwraps VLAN 0"),
    Row("A04", "other EtherTypes: PPPoE, MPLS, LLC/SNAP, RARP and whatever else a filter does not know"),
    Row("A05", "link-layer control: 802.1X, LLDP, LACP, spanning tree"),
    Row("A06", "ARP poisoning of a neighbour, and of the node's entry for a neighbour"),
    Row("A07", "neighbour discovery spoofing, likewise"),
    Row("A08", "router advertisements to neighbours or to the node, and their evasions (CVE-2020-10749)"),
    Row("A09", "announcements: duplicate address denial, DHCP, mDNS, SSDP, IGMP, broadcast"),
    Row("A10", "MAC theft: the bridge learns the victim's MAC at the attacker's port"),
    Row("A11", "the forwarding table: floods, overheard unknown unicast, the bridge's own MAC as source"),
    Row("A12", "floods of the node's neighbour table by forged senders"),
    Row("A13", "ARP flux: the node answers for addresses of its other interfaces"),
    Row("A14", "a bridge port that somebody else put on the bridge"),
    Row("B01", "spoofed sources: foreign, another container's, unassigned, the gateway's"),
    Row("B02", "fragments: tiny, overlapping, without a first one"),
    Row("B03", "IPv6 extension and routing headers, IPv4 options and source routes"),
    Row("B04", "RELATED: ICMP errors that quote another's flow, expectations of connection tracking helpers"),
    Row("B05", "packets that connection tracking calls invalid leave untranslated"),
    Row(
        "B06",
        "exhaustion of connection tracking and of NAT ports by one container, or by all of a tenant",
        also=(
            "tests/packet/test_egress.py",
            "tests/packet/test_ended.py",
            "tests/packet/test_exhaustion.py",
            "tests/packet/test_forged_clients.py",
            "tests/packet/test_tenant_bounds.py",
        ),
    ),
    Row("B07", "port shadowing (CVE-2021-3773): a container's source port takes over replies meant for the node"),
    Row("B08", "protocols other than TCP, UDP and ICMP"),
    Row(
        "B09",
        "abuse of egress: mail, SYN and UDP floods, scans",
        also=("tests/packet/test_mail.py", "tests/packet/test_new_connections.py"),
    ),
    Row(
        "B10",
        "starvation of the neighbours' bandwidth or packet rate",
        also=(
            "tests/packet/test_packet_rate.py",
            "tests/packet/test_byte_rate.py",
            "tests/packet/test_fragments.py",
            "tests/packet/test_queues.py",
            "tests/packet/test_tenant_bounds.py",
        ),
    ),
    Row(
        "B11",
        "flooding or blinding the audit log",
        also=("tests/packet/test_reports.py", "tests/packet/test_audit_flood.py"),
    ),
    Row("B12", "names: tunnels over DNS, rebinding to private addresses", missing="needs policies by name"),
    Row(
        "B13",
        "an unfinished checksum: a network card writes two bytes where the container asked for them, after every hook",
        also=("tests/packet/test_unfinished_checksums.py",),
    ),
    Row("C01", "the metadata services of every cloud, also at public-looking addresses"),
    Row("C02", "IPv4 special-purpose ranges"),
    Row("C03", "IPv6 outside of what is globally routed, and IPv4 wrapped into IPv6"),
    Row("C04", "the node's addresses, also the hidden public one; its networks, its neighbours, its other bridges"),
    Row(
        "C05",
        "a floor computed by Python's ipaddress, whose is_global is true for several of the above",
        missing="no frame: the floor is a table, and its unit tests hold what ipaddress is wrong about",
        also=("tests/unit/model/test_floor.py",),
    ),
    Row("D01", "services of the node, on every address it has"),
    Row("D02", "the node's loopback through route_localnet (CVE-2020-8558), from containers and from the LAN"),
    Row("D03", "a neighbour on the LAN routes straight to a container"),
    Row("D04", "unscoped DNAT: an exposed port captures connections to that port elsewhere (CVE-2025-67499)"),
    Row("D05", "hairpin: another tenant's exposed port by the node's or the gateway's address"),
    Row(
        "D06",
        "iptables -F, nft flush ruleset, reloads of firewalld or Docker",
        also=(
            "tests/packet/test_owned.py",
            "tests/watch/test_flushes.py",
            "tests/neighbours/test_firewalld.py",
            "tests/neighbours/test_docker.py",
        ),
    ),
    Row(
        "D07",
        "an update of the rules that opens a gap, fails half-way or is blocked by one bad rule",
        also=("tests/packet/test_blink.py", "tests/engine/test_crash.py"),
    ),
    Row("D08", "the start-up window: the interface is up before its rules are", also=("tests/engine/test_crash.py",)),
    Row(
        "D09",
        "reuse of an address: old flows and entries deliver to the new owner",
        also=("tests/packet/test_successors.py",),
    ),
    Row(
        "D10",
        "flows that survive a tightened policy",
        also=("tests/packet/test_policies.py", "tests/packet/test_tightened.py", "tests/packet/test_exposure.py"),
    ),
    Row("D11", "IPv6 in the container where no IPv6 filter can be installed", also=("tests/packet/test_hosts.py",)),
    Row("D12", "names that collide because container ids are cut short"),
    Row("D13", "injection through ids, names and comments"),
    Row(
        "D14",
        "descriptors of namespaces that children inherit, the control socket",
        also=("tests/daemon/test_sockets.py", "tests/daemon/test_peers.py", "tests/daemon/test_callers.py"),
    ),
    Row("D15", "forwarding that is turned on makes the node a router between its other networks"),
    Row("D16", "the node's links, by the number that a veth gives a container for the node's network namespace"),
)

UNCOVERED_PARTS: dict[str, str] = {
    "B06": "TCP connections that have ended are counted by nothing (nf_conncount passes over them): beside its bound "
    "of open ones a tenant keeps six times as many at most, and who goes beyond has all containers of the tenant "
    "wait; without a bound of tenants one keeps as many as it goes on sending in, which a rate of new ones slows down; "
    "with iptables all of that is each container's, twice, and what one tenant may have is the sum of what its "
    "containers may. Whoever is outside shuts a published port by a tenth of its bound a second in forged first "
    "packets, 102 with the usual one; with iptables of UDP by 34. Source ports of the node's to one address, port and "
    "protocol are 19,760 by default: three tenants, or twenty containers of none, at their bounds of flows take them "
    "from all others, which `doctor` says; one tenant alone, where it keeps up flows that have ended beside its bound",
    "B09": "floods and scans where no rate is configured, as by default: the node of the probes has some",
    "B10": "likewise; what the flood costs the node's processors before any rule sees it; and what others send in "
    "fragments, which eight containers that flood together can have dropped, and with iptables one, and the node's own",
    "B11": "with iptables forged sources and frames of all containers have one budget of the log: who forges many has "
    "another's forged ones missing, which rules count, and of nobody",
    "B13": "a kernel that does not describe its types (BTF), is older than 5.8, or is locked down against reading its "
    "memory: what judges the place cannot be loaded, and `up`, `status` and `doctor` say so",
    "D16": "a container that has CAP_NET_ADMIN and no user namespace of its own: the kernel lets it act on the node's "
    "links, and no network layer can stop that",
}
"""What is not covered of rows that are."""


def row(name: str) -> Row:
    """One row of the catalogue."""
    return next(entry for entry in CATALOGUE if entry.id == name)
