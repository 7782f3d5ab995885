"""Two throw-away namespaces, a sender and a node, joined by two veth pairs and to nothing else.

The node's end of one pair is `b0`, where the sender's frames come in, and of the other `b1`, where they leave.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Self

from cellwall.adapters.process import run
from cellwall.adapters.sandbox.netns import entered, open_netns

IPV6_OFF = "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"


class KernelLab:
    def __init__(self) -> None:
        self.sender, self.node = (f"cwrs{os.getpid()}{end}" for end in "ab")
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            self.build()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def build(self) -> None:
        for name in (self.sender, self.node):
            run(["ip", "netns", "add", name])
        self.inside(self.sender, "sysctl", "-qw", *IPV6_OFF)
        self.inside(self.node, "sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=1")
        for number in "01":
            self.ip(self.sender, f"link add a{number} type veth peer name b{number} netns {self.node}")
            # Frames that the sender pads or segments itself would not be those that were evaluated.
            self.ip(self.sender, f"link set a{number} address 02:00:00:00:0a:0{number} up")
            self.ip(self.node, f"link set b{number} address 02:00:00:00:0b:0{number} up")
        self.ports = {number: self._packet_socket(self.sender, f"a{number}") for number in "01"}
        self.taps = {number: self._packet_socket(self.node, f"b{number}") for number in "01"}

    def bridge(self) -> None:
        """b0 and b1 are ports of a bridge that forwards whatever its rules let through."""
        self.inside(self.node, "sysctl", "-qw", IPV6_OFF[0])
        # With br_netfilter loaded, a new namespace passes bridged packets through the IP stack's own checks,
        # which drop the malformed ones between two of our hooks.
        for family in ("iptables", "ip6tables", "arptables"):
            self.inside(self.node, "sysctl", "-qwe", f"net.bridge.bridge-nf-call-{family}=0")
        self.ip(self.node, "link add br0 type bridge mcast_snooping 0")
        for link in ("b0", "b1"):
            self.ip(self.node, f"link set {link} master br0")
            # Learning off: a frame whose destination was once a source would stay on its own port.
            self.inside(self.node, "bridge", "link", "set", "dev", link, "learning", "off", "flood", "on")
        self.ip(self.node, "link set br0 up")

    def route(self) -> None:
        """The node forwards 10.9.1.0/24, 10.9.2.0/24, fd09:1::/64 and fd09:2::/64 to b1."""
        settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0"]
        for each in ("all", "default", "b0", "b1"):
            settings += [f"net.ipv4.conf.{each}.rp_filter=0", f"net.ipv4.conf.{each}.send_redirects=0"]
        self.inside(self.node, "sysctl", "-qw", *settings)
        plan = (("10.9.0.1/24", "fd09::1/64"), ("10.9.9.1/24", "fd09:9::1/64"))
        for number, addresses in enumerate(plan):
            for address in addresses:
                nodad = " nodad" if ":" in address else ""
                self.ip(self.node, f"addr add {address} dev b{number}{nodad}")
        for host in ("10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"):
            self.ip(self.node, f"neigh add {host} lladdr 02:00:00:00:0a:00 dev b0 nud permanent")
        for host, networks in (
            ("10.9.9.2", ("10.9.1.0/24", "10.9.2.0/24")),
            ("fd09:9::2", ("fd09:1::/48", "fd09:2::/48")),
        ):
            self.ip(self.node, f"neigh add {host} lladdr 02:00:00:00:0a:01 dev b1 nud permanent")
            for network in networks:
                self.ip(self.node, f"route add {network} via {host} dev b1")

    def forget_flows(self) -> None:
        self.inside(self.node, "conntrack", "-F")

    def destroy(self) -> None:
        for each in self._sockets:
            each.close()
        for name in (self.sender, self.node):
            run(["ip", "netns", "del", name], check=False)

    def _packet_socket(self, netns: str, link: str) -> socket.socket:
        fd = open_netns(f"/run/netns/{netns}")
        try:
            with entered(fd):
                each = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        finally:
            os.close(fd)
        self._sockets.append(each)
        each.bind((link, 3))
        each.settimeout(30)
        return each

    def inside(self, netns: str, *argv: str, text: str | None = None) -> str:
        command = ["nsenter", f"--net=/run/netns/{netns}", *argv]
        return run(command, input=None if text is None else text.encode()).text

    def ip(self, netns: str, arguments: str) -> None:
        run(["ip", "-n", netns, *arguments.split()])

    def index(self, link: str) -> int:
        (found,) = json.loads(run(["ip", "-n", self.node, "-j", "link", "show", link]).text)
        return int(found["ifindex"])

    def load(self, text: str) -> None:
        """Replace everything in the node by `text`."""
        self.inside(self.node, "nft", "-f", "-", text="flush ruleset\n" + text)

    def send(self, frames: Sequence[bytes], number: str = "0") -> None:
        """Send and wait until the node's end has taken the last frame in."""
        tap, port = self.taps[number], self.ports[number]
        _drain(tap)
        for frame in frames:
            port.send(frame)
        tap.settimeout(30)
        waiting = len(frames)
        deadline = time.monotonic() + 30
        while waiting and time.monotonic() < deadline:
            _, where = tap.recvfrom(4096)
            waiting -= where[2] != socket.PACKET_OUTGOING
        assert not waiting, f"{waiting} frames did not arrive"

    def counters(self) -> dict[tuple[str, str, str, int], int]:
        """(family, table, chain, index of the rule) → packets of its counter."""
        listed = json.loads(self.inside(self.node, "nft", "-j", "list", "ruleset"))["nftables"]
        places: dict[tuple[str, str, str], int] = {}
        found: dict[tuple[str, str, str, int], int] = {}
        for entry in listed:
            if "rule" not in entry:
                continue
            rule = entry["rule"]
            chain = (rule["family"], rule["table"], rule["chain"])
            index = places.get(chain, 0)
            places[chain] = index + 1
            counted = [part["counter"]["packets"] for part in rule["expr"] if "counter" in part]
            if counted:
                found[(*chain, index)] = counted[0]
        return found


def _drain(tap: socket.socket) -> None:
    """Forget what the tap holds from before."""
    tap.setblocking(False)
    while True:
        try:
            tap.recv(4096)
        except BlockingIOError:
            return
