"""How the hosts of a lab are wired.

    internet ──eth0─┐                         ┌─eth1──eth0── infra     172.20.0.0/24   fd00:20::/64
     (lo: public,   ├─ wire (a switch) ─eth0─ node
      metadata,     │                         └─br-other─eth0── other  172.17.0.0/16   fd00:17::/64
      private)      │
    lan ──────eth0──┘   93.184.216.0/24  2606:2800:220:1::/64

Owns: links, addresses and routes, one `ip -batch` per host. Links are made inside the lab's namespaces, so
that none ever exists in the machine's. Each host starts from the kernel's defaults: a new namespace
inherits the machine's IPv4 settings, and a machine that runs Docker would make every host a router. The
Internet has routes to its own segment only: a packet that leaves with a private source arrives there, and
no answer to it ever comes back.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cellwall.errors import LabError
from cellwall.lab import addresses as at
from cellwall.lab import links
from cellwall.lab.host import Host
from cellwall.lab.offload import finish_checksums

HOSTS = ("wire", "internet", "node", "lan", "infra", "other")

_CARDS = ("eth0", "eth1")
"""Links of the node that stand for network cards."""

_DEFAULTS4 = {
    "forwarding": "0",
    "accept_local": "0",
    "accept_redirects": "1",
    "accept_source_route": "1",
    "arp_announce": "0",
    "arp_ignore": "0",
    "arp_filter": "0",
    "proxy_arp": "0",
    "route_localnet": "0",
    "rp_filter": "0",
    "send_redirects": "1",
}
_TALKATIVE = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "100000",
    "net/ipv4/icmp_msgs_burst": "10000",
    "net/ipv6/icmp/ratelimit": "0",
}
"""The world around the node reports every error at once: a probe must not be silenced by those before it. The node
keeps the kernel's limits."""
_MACS = {
    "internet": "02:5d:00:00:00:01",
    "node": "02:5d:00:00:00:0a",
    "lan": "02:5d:00:00:00:14",
    "node-infra": "02:5d:00:01:00:0a",
    "infra": "02:5d:00:01:00:14",
    "node-other": "02:5d:00:02:00:01",
    "other": "02:5d:00:02:00:02",
}


def start_plain(host: Host) -> None:
    """Give a new host the kernel's defaults, whatever the machine's are."""
    with host.enter():
        _write("net/ipv4/ip_forward", "0")  # first: it rewrites other settings
        for scope in ("all", "default"):
            for name, value in _DEFAULTS4.items():
                _write(f"net/ipv4/conf/{scope}/{name}", value)


def wire_up(hosts: Mapping[str, Host], prefix: str, *, ipv6: bool, offload: bool) -> None:
    """Make all links, addresses and routes; returns when both families work on every link. Without `offload` the
    node's links to the outside write checksums as network cards do."""
    for host in hosts.values():
        start_plain(host)
        with host.enter():
            # Both: a link copies "default" when it is made, and "all" is what a later one is measured by.
            for scope in ("all", "default"):
                _write(f"net/ipv6/conf/{scope}/disable_ipv6", "0" if ipv6 else "1")
            # Duplicate address detection would keep link-local addresses unusable for the first second.
            _write("net/ipv6/conf/default/accept_dad", "0")
    for name in ("internet", "lan", "infra", "other"):
        with hosts[name].enter():
            for setting, value in _TALKATIVE.items():
                _write(setting, value)
    with hosts["wire"].enter():  # a switch is no host: it must not answer or send anything of its own
        _write("net/ipv6/conf/default/disable_ipv6", "1")
    hosts["wire"].ip(_wire(prefix))
    hosts["node"].ip(_node_links(prefix))
    with hosts["node"].enter():  # what is made later on the node, is made on an ordinary host
        _write("net/ipv6/conf/default/accept_dad", "1")
        for name in () if offload else _CARDS:
            finish_checksums(name)
    for name, lines in _configuration().items():
        hosts[name].ip(line for line in lines if ipv6 or ":" not in line)
    _await_links(hosts.values())


def _wire(prefix: str) -> list[str]:
    # No snooping: a switch that filters multicast would have to learn who listens for solicitations first.
    lines = ["link add seg type bridge mcast_snooping 0 stp_state 0"]
    for name in ("internet", "node", "lan"):
        lines += [
            f"link add {name} type veth peer name eth0 address {_MACS[name]} netns {prefix}-{name}",
            f"link set {name} master seg up",
        ]
    return [*lines, "link set seg up", "link set lo up"]


def _node_links(prefix: str) -> list[str]:
    return [
        f"link add eth1 address {_MACS['node-infra']} type veth"
        f" peer name eth0 address {_MACS['infra']} netns {prefix}-infra",
        f"link add br-other address {_MACS['node-other']} type bridge",
        f"link add vethother type veth peer name eth0 address {_MACS['other']} netns {prefix}-other",
        "link set vethother master br-other",
    ]


def _configuration() -> dict[str, list[str]]:
    """Host → what is set on it. Routes come last: a gateway must be on a link that is up."""
    up = ["link set lo up", "link set eth0 up"]
    gateways = [f"route add default via {at.GATEWAY4}", f"route add default via {at.GATEWAY6}"]
    return {
        "node": [
            *up,
            *(f"link set {name} up" for name in ("eth1", "vethother", "br-other")),
            *_addresses("eth0", f"{at.NODE4}/24", f"{at.NODE6}/64"),
            *_addresses("eth1", f"{at.NODE_INFRA4}/24", f"{at.NODE_INFRA6}/64"),
            *_addresses("br-other", f"{at.NODE_OTHER4}/16", f"{at.NODE_OTHER6}/64"),
            *gateways,
        ],
        "internet": [
            *up,
            *_addresses("eth0", f"{at.INTERNET4}/24", f"{at.INTERNET6}/64"),
            *_addresses("lo", *(f"{address}/32" for address in at.INTERNET_LO4)),
            *_addresses("lo", *(f"{address}/128" for address in at.INTERNET_LO6)),
        ],
        "lan": [*up, *_addresses("eth0", f"{at.LAN4}/24", f"{at.LAN6}/64"), *gateways],
        # What gets through the node to these two is answered: a leak is an answer, not only a captured frame.
        "infra": [
            *up,
            *_addresses("eth0", f"{at.INFRA4}/24", f"{at.INFRA6}/64"),
            f"route add default via {at.NODE_INFRA4}",
            f"route add default via {at.NODE_INFRA6}",
        ],
        "other": [
            *up,
            *_addresses("eth0", f"{at.OTHER4}/16", f"{at.OTHER6}/64"),
            f"route add default via {at.NODE_OTHER4}",
            f"route add default via {at.NODE_OTHER6}",
        ],
    }


def _addresses(ifname: str, *prefixes: str) -> list[str]:
    return [f"address add {prefix} dev {ifname}{' nodad' if ':' in prefix else ''}" for prefix in prefixes]


def _await_links(hosts: Iterable[Host], timeout: float = 30.0) -> None:
    """Wait until every link carries. The kernel says so from a work queue, and IPv6 has no routes before."""
    deadline = time.monotonic() + timeout
    for host in hosts:
        with host.enter():
            while not all(_carries(link) for link in links.links()):
                if time.monotonic() > deadline:
                    raise LabError(f"{host.name}: not every link came up within {timeout:g} s")
                time.sleep(0.001)


def _carries(link: links.Link) -> bool:
    # RFC 2863 operstate: 6 is up; 0, unknown, is all that the loopback ever reaches.
    return not link.up or link.operstate in (0, 6)


def _write(name: str, value: str) -> None:
    with suppress(FileNotFoundError):  # a kernel without IPv6, or without this setting
        Path("/proc/sys", name).write_text(value)
