"""A Docker daemon in a lab's node, with firewall rules of both families."""

import subprocess
from pathlib import Path

from cellwall.lab import Lab, connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4
from neighbours.annex import Annex, need

_SOCKET = "unix:///run/docker.sock"  # of the annex: the path of a temporary directory may be too long for one
_LISTEN = ("/bin/nc", "-ll", "-p", "80", "-e", "/bin/echo", "docker")


class Docker:
    """dockerd and its client in a lab's node."""

    def __init__(self, lab: Lab, base: Path, variant: str = "nft", *, annex: Annex | None = None) -> None:
        need("dockerd", "docker", "containerd", "runc", "busybox", "iptables")
        self.annex = annex or Annex(lab, base)
        self.lab = lab
        if variant == "legacy":
            self.annex.use_legacy_iptables()
        self.daemon = self.start()
        tree = subprocess.run(["tar", "-C", self.annex.rootfs(), "-c", "."], stdout=subprocess.PIPE, check=True)
        self.ask("import", "-", "tree", input=tree.stdout)

    def start(self) -> "subprocess.Popen[bytes]":
        base = self.annex.base
        daemon = self.annex.start(
            "dockerd", "--host", _SOCKET, "--data-root", f"{base}/data", "--exec-root", "/run/docker",
            "--pidfile", "/run/docker.pid", "--storage-driver", "vfs", "--log-level", "warn",
            "--bip", "172.30.0.1/24", "--ipv6", "--fixed-cidr-v6", "fd00:30::/64", "--experimental", "--ip6tables",
        )  # fmt: skip
        self.annex.come_up(daemon, lambda: self._says("version"))
        return daemon

    def restart(self) -> None:
        """As a package's upgrade does it."""
        self.annex.end(self.daemon)
        self.daemon = self.start()

    def ask(self, *arguments: str, input: bytes | None = None) -> str:
        return self.annex.run("docker", "--host", _SOCKET, *arguments, input=input).text

    def _says(self, *arguments: str) -> bool:
        argv = ["docker", "--host", _SOCKET, *arguments]
        return self.annex.run(*argv, check=False).returncode == 0

    def run(self, name: str, *options: str) -> None:
        """A container that answers on port 80; it is back when the daemon is."""
        self.ask("run", "--detach", "--name", name, "--restart", "always", "--stop-signal", "KILL", *options, "tree",
                 *_LISTEN)  # fmt: skip

    def assert_works(self) -> None:
        """Its containers reach the world, and a published port of theirs is reached."""
        assert self.ask("run", "--rm", "tree", "/bin/sh", "-c", f"echo hi | nc -w 2 {PUBLIC4[2]} 80") == "internet hi\n"
        self.annex.come_up(self.daemon, lambda: all(self._answers(address) for address in (NODE4, NODE6)))

    def _answers(self, address: str) -> bool:
        return connect(self.lab.lan, address, 8081).data == b"docker\n"

    def reached(self, address: str, port: int, name: str = "web") -> str:
        """What a container of Docker's gets from there."""
        return self.ask("exec", name, "/bin/sh", "-c", f"echo hi | nc -w 1 {address} {port} || true")
