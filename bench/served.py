"""Who is measured on a node whose daemon writes: a program that asks it, and the plugin that does."""

import os
import subprocess
import sys

from bench.contestants import Plugin, batches
from cellwall.client import Client
from cellwall.lab import Host, Lab


class Daemon:
    """`cellwall serve` on a lab's node, as a process of its own."""

    def __init__(self, lab: Lab) -> None:
        environ = {**os.environ, "CELLWALL_NODE_MODE": "daemon"}
        argv = [sys.executable, "-m", "cellwall.cli.main", "--root", str(lab.root), "serve"]
        with lab.node.enter():
            self._process = subprocess.Popen(argv, env=environ, stderr=subprocess.DEVNULL)
        self.client = Client.open(root=lab.root, patience=30)

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    def close(self) -> None:
        """End it in order."""
        self.client.close()
        self._process.terminate()
        self._process.wait(30)


class ByClient:
    """`Client.attach` in a long-lived process: what `Wall.attach` is in process, and the way to the daemon and back."""

    name = "cellwall, through the socket"
    samples_a_round = 5
    cycles_a_sample = 200

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._daemon = Daemon(lab)
        self._client = self._daemon.client

    def prepare(self) -> None:
        self._client.up()

    def attach(self, name: str, sandbox: Host) -> None:
        self._client.attach(name, netns=sandbox.netns)

    def detach(self, name: str, sandbox: Host) -> None:
        self._client.detach(name)

    def populate(self, count: int) -> None:
        for batch in batches(self.lab, count):
            self._client.attach_many(batch)

    def close(self) -> None:
        self._daemon.close()


class PluginByDaemon(Plugin):
    """The `cellwall-cni` executable, a fresh process per call that asks the daemon."""

    name = "cellwall-cni, daemon"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._daemon = Daemon(lab)

    def prepare(self) -> None:
        self._daemon.client.up()

    def populate(self, count: int) -> None:
        for batch in batches(self.lab, count):
            self._daemon.client.attach_many(batch)

    def close(self) -> None:
        self._daemon.close()
