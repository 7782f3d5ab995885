"""One host of a lab: a network namespace, seen from outside.

Owns: entering it, running programs and opening sockets in it. Programs are started by a thread that is
inside, so they inherit the namespace; /sys stays the machine's, which matters to programs that look for
links there and not in netlink. Refuses nothing: what a hostile host does is the caller's business.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cellwall.adapters import process
from cellwall.adapters.sandbox import netns
from cellwall.errors import LabError, NotFound
from cellwall.lab import links
from cellwall.lab.capture import ETH_P_ALL, Capture, inject
from cellwall.lab.custody import Custody
from cellwall.lab.services import Services

if TYPE_CHECKING:
    import subprocess


class Host:
    """A host by its short name; `netns` is where its namespace is found."""

    def __init__(self, name: str, path: Path, custody: Custody, *, ipv6: bool = True) -> None:
        self.name = name
        self.netns = path
        self.ipv6 = ipv6
        self._custody = custody
        self._services: list[Services] = []

    def __repr__(self) -> str:
        return f"Host({self.netns.name})"

    def enter(self) -> AbstractContextManager[None]:
        """The calling thread is in this host's namespace inside the block."""
        return netns.enter(self.netns)

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> process.Completed:
        """Run a program inside to its end; the options are those of `process.run`."""
        with self.enter():
            return process.run(argv, input=input, timeout=timeout, check=check, env=env)

    def ip(self, lines: Iterable[str], *, timeout: float = 30.0) -> None:
        """Carry out `ip` commands in order, each without its `ip`; the first that fails ends it with ProgramFailed."""
        self.run(["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines).encode(), timeout=timeout)

    def popen(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program inside; the lab ends it when it closes."""
        with self.enter():
            program = process.start(argv, **options)
        self._custody.keep_program(program)
        return program

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """A socket of this host, usable from anywhere; closed with the lab at the latest."""
        with self.enter():
            sock = socket.socket(family, type, proto)
        self._custody.keep_open(sock)
        return sock

    def mac(self, ifname: str) -> str:
        """The hardware address of a link; NotFound where the host has no such link."""
        with self.enter():
            for link in links.links():
                if link.name == ifname:
                    return link.mac
        raise NotFound(f"{self.name} has no link {ifname!r}")

    def addresses(self, ifname: str) -> list[str]:
        """The addresses of a link without their prefix lengths, link-local ones too; IPv4 first."""
        shown = self._show("address", "show", "dev", ifname)
        found = [entry["local"] for link in shown for entry in link.get("addr_info", ()) if "local" in entry]
        return sorted(found, key=lambda address: ":" in address)

    def neighbours(self) -> dict[str, str]:
        """The neighbours whose hardware address is known: IP → MAC."""
        return {entry["dst"]: entry["lladdr"] for entry in self._show("neighbour", "show") if "lladdr" in entry}

    def _show(self, *argv: str) -> list[dict[str, Any]]:
        done = self.run(["ip", "-json", *argv])
        return msgspec.json.decode(done.stdout or b"[]", type=list[dict[str, Any]])

    def serve(self, *, tcp: Sequence[int] = (), udp: Sequence[int] = ()) -> Services:
        """Echo servers on every address of this host, also on those it is given later."""
        families = [socket.AF_INET, socket.AF_INET6] if self.ipv6 else [socket.AF_INET]
        wanted = {("tcp", port) for port in tcp} | {("udp", port) for port in udp}
        for other in self._services:
            # REUSEPORT would let both bind, and share the traffic between them.
            for transport, port in other.ports & wanted:
                raise LabError(f"{self.name} serves {transport} port {port} already")
        services = Services(self.name, self._custody.loop)
        self._services.append(services)
        services.open(self.socket, tcp=tcp, udp=udp, families=families)
        return services

    def capture(self, ifname: str | None = None, *, promiscuous: bool = True, outgoing: bool = True) -> Capture:
        """Capture on one link, or on all that exist now; without `outgoing` only what the host received."""
        # With a protocol a packet socket hears every link; without one none, until it is bound to its link.
        protocol = socket.htons(ETH_P_ALL) if ifname is None else 0
        sock = self.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
        with self.enter():
            names = [link.name for link in links.links()] if ifname is None else [ifname]
            try:
                return Capture(sock, names, bound_to=ifname, promiscuous=promiscuous, outgoing=outgoing)
            except OSError as error:
                sock.close()
                raise LabError(f"capture on {self.name} {ifname or 'every link'}: {error.strerror}") from error

    def inject(self, ifname: str, frames: Sequence[bytes]) -> None:
        """Send each raw frame out of a link exactly once, in order."""
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock, self.enter():
            inject(sock, ifname, frames)
