"""Programs of other people on the node of a lab: with its network, and with files and mounts of their own.

The mount namespace lives as long as one sleeping process in it. /etc is a copy, /run and /var/log are empty, /sys shows
the node's links, and control groups are of version 2: nothing of the machine's is read or written.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cellwall.adapters.process import Completed
from cellwall.lab import Lab

_MOUNTS = """
mount --make-rprivate /
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/dbus /run/docker /run/lock
mount --bind {base}/etc /etc
echo mounted
exec sleep 900
"""
_APPLETS = ("sh", "nc", "sleep", "echo")


def need(*programs: str) -> None:
    """Skip where one of these is not installed."""
    for program in programs:
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"{program} is not installed")


class Annex:
    """A place on a lab's node where other programs run."""

    def __init__(self, lab: Lab, base: Path) -> None:
        self.lab, self.base = lab, base
        shutil.copytree("/etc", base / "etc", symlinks=True, ignore_dangling_symlinks=True,
                        ignore=shutil.ignore_patterns("ssl", "ssh", "shadow*", "gshadow*"))  # fmt: skip
        argv = ["unshare", "-m", "sh", "-ec", _MOUNTS.format(base=base)]
        self._keeper = lab.node.popen(argv, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"mounted\n"
        self._inside = ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt"]
        self._programs: list[subprocess.Popen[bytes]] = []

    def use_legacy_iptables(self) -> None:
        """What the administrator of a Debian chooses with update-alternatives."""
        for family in ("iptables", "ip6tables"):
            need(f"{family}-legacy")
            for suffix in ("", "-save", "-restore"):
                name = self.base / f"etc/alternatives/{family}{suffix}"
                name.unlink()
                name.symlink_to(f"/usr/sbin/{family}-legacy{suffix}")

    def run(self, *argv: str, check: bool = True, input: bytes | None = None, timeout: float = 60.0) -> Completed:
        """Run a program in it to its end."""
        return self.lab.node.run([*self._inside, *argv], check=check, timeout=timeout, input=input)

    def start(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a program in it; what it says goes into a file of its name."""
        with (self.base / f"{Path(argv[0]).name}.log").open("ab") as log:
            program = self.lab.node.popen([*self._inside, *argv], stdout=log, stderr=log)
        self._programs.append(program)
        return program

    def come_up(self, program: "subprocess.Popen[bytes]", ready: Callable[[], bool], patience: float = 60.0) -> None:
        """Return when it is ready; AssertionError with what was said where it ends before that."""
        deadline = time.monotonic() + patience
        while not ready():
            said = "\n".join(log.read_text(errors="replace")[-2000:] for log in self.base.glob("*.log"))
            assert program.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def end(self, program: "subprocess.Popen[bytes]", patience: float = 60.0) -> None:
        """Ask a program to end, and wait for it: libvirtd gives its threads 30 seconds, then leaves without them."""
        program.terminate()
        program.wait(timeout=patience)

    def close(self) -> None:
        """End what still runs, the latest first, and let the mounts go."""
        for program in (*reversed(self._programs), self._keeper):
            if program.poll() is None:
                self.end(program)

    def rootfs(self) -> Path:
        """A container's file tree: busybox and a few of its names."""
        need("busybox")
        root = self.base / "rootfs"
        if root.exists():
            return root
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
            (root / name).mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox
        shutil.copy(busybox, root / "bin/busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        return root
