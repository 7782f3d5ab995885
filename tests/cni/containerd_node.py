"""containerd in a lab node: its own mount namespace, its own root, state and socket, nothing of the machine's.

The mount namespace lives as long as one sleeping process in it; every `ctr` joins it, because ctr itself (go-cni)
reads /etc/cni/net.d and starts the plugins of /opt/cni/bin.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec

from cellwall.adapters.process import Completed
from cellwall.cni.install import install
from cellwall.lab import Lab

# without them containerd needs neither overlayfs, cgroups, CRI nor a device mapper
_UNUSED_PLUGINS = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
]

# /etc/cni and /opt/cni need not exist on the machine: /etc is a copy with them, /opt and /run are empty file systems
_MOUNTS = """
mount --make-rprivate /
mount --bind {base}/etc /etc
mount -t tmpfs none /opt && mkdir -p /opt/cni/bin && mount --bind {base}/bin /opt/cni/bin
mount -t tmpfs none /run
echo mounted
exec sleep 600
"""


class ContainerdNode:
    """containerd and ctr in the node of a lab."""

    def __init__(self, lab: Lab, base: Path) -> None:
        self.lab = lab
        self.base = base
        self.socket = base / "containerd.sock"
        for name in ("root", "state", "bin", "fifo"):
            (base / name).mkdir()
        shutil.copytree("/etc", base / "etc", symlinks=True, ignore_dangling_symlinks=True,
                        ignore=shutil.ignore_patterns("shadow*", "gshadow*", "ssl", "ssh"))  # fmt: skip
        install(str(base / "bin"), str(base / "etc/cni/net.d"), root=str(lab.root), force=True)
        self._make_rootfs()
        self._keeper = lab.node.popen(["unshare", "-m", "sh", "-ec", _MOUNTS.format(base=base)], stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"mounted\n"
        self._daemon = self._start_daemon()

    def _make_rootfs(self) -> None:
        self.rootfs = self.base / "rootfs"
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for applet in ("sh", "nc", "sleep", "echo", "wget"):
            (self.rootfs / "bin" / applet).symlink_to("busybox")

    def _start_daemon(self) -> "subprocess.Popen[bytes]":
        config = self.base / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.base}/root"\nstate = "{self.base}/state"\n'
            f"disabled_plugins = {_UNUSED_PLUGINS!r}\n".replace("'", '"')
            + f'[grpc]\naddress = "{self.socket}"\n[ttrpc]\naddress = "{self.socket}.ttrpc"\n[debug]\nlevel = "warn"\n'
        )
        log = (self.base / "containerd.log").open("wb")
        with log:
            daemon = self.lab.node.popen([*self._inside, "containerd", "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while self.ctr("version", check=False).returncode:
            assert time.monotonic() < deadline, (self.base / "containerd.log").read_text()
            assert daemon.poll() is None, (self.base / "containerd.log").read_text()
            time.sleep(0.05)
        return daemon

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt"]

    def ctr(self, *arguments: str, check: bool = True, timeout: float = 30.0) -> Completed:
        """Run ctr to its end."""
        argv = [*self._inside, "ctr", "--address", str(self.socket), "--namespace", "lab", *arguments]
        return self.lab.node.run(argv, check=check, timeout=timeout, env={"HOME": str(self.base)})

    def publish(self, mappings: list[dict[str, Any]]) -> None:
        """What the next container publishes. `ctr run` hands no capability over, so the conflist carries what a
        runtime would have put into runtimeConfig."""
        document = msgspec.json.decode(self._conflist.read_bytes())
        document["plugins"][0]["runtimeConfig"] = {"portMappings": mappings}
        self._conflist.write_bytes(msgspec.json.encode(document))

    def follow(self, *plugins: dict[str, Any]) -> None:
        """The plugins that come after ours in the list."""
        document = msgspec.json.decode(self._conflist.read_bytes())
        for plugin in plugins:
            shutil.copy(Path("/usr/lib/cni", plugin["type"]), self.base / "bin")
        document["plugins"][1:] = plugins
        self._conflist.write_bytes(msgspec.json.encode(document))

    @property
    def _conflist(self) -> Path:
        return self.base / "etc/cni/net.d/10-cellwall.conflist"

    def run(self, name: str, *command: str, detach: bool = True) -> Completed:
        """`ctr run --cni` of the busybox tree."""
        mode = ["--detach"] if detach else ["--rm"]
        return self.ctr("run", "--cni", "--cgroup", "", "--fifo-dir", str(self.base / "fifo"), *mode,
                        "--env", "PATH=/bin", "--rootfs", str(self.rootfs), name, *command)  # fmt: skip

    def exec(self, name: str, command: str) -> Completed:
        """A shell command inside a running container."""
        return self.ctr("task", "exec", "--fifo-dir", str(self.base / "fifo"), "--exec-id", f"e{os.urandom(4).hex()}",
                        name, "/bin/sh", "-c", command, check=False)  # fmt: skip

    def remove(self, name: str) -> None:
        """Kill a container's task and delete both."""
        self.ctr("task", "kill", "--signal", "KILL", name, check=False)
        self.ctr("task", "delete", "--force", name, check=False)
        self.ctr("container", "delete", name, check=False)

    def close(self) -> None:
        """End the daemon and let the mount namespace go."""
        for program in (self._daemon, self._keeper):
            program.terminate()
            program.wait(timeout=10)
