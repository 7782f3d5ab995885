"""The plugin as a runtime sees it: an executable, an environment, JSON in and JSON out."""

from pathlib import Path
from typing import Any

import msgspec

from cellwall.lab import Host, Lab


class Reply(msgspec.Struct, frozen=True):
    """One answer."""

    status: int
    document: dict[str, Any]
    stderr: str

    @property
    def message(self) -> str:
        """An error's message."""
        assert self.status == 1, self.document
        return str(self.document["msg"])


class Plugin:
    """Calls of the installed executable in a lab's node."""

    def __init__(self, lab: Lab, executable: Path) -> None:
        self.lab = lab
        self.executable = executable

    def conf(self, **keys: Any) -> dict[str, Any]:
        """A network configuration as libcni would hand it over."""
        return {
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "cellwall-cni",
            "root": str(self.lab.root),
            **keys,
        }

    def call(
        self,
        verb: str,
        container_id: str = "",
        box: Host | str | None = None,
        *,
        conf: dict[str, Any] | None = None,
        raw: bytes | None = None,
        ifname: str = "eth0",
        args: str | None = None,
    ) -> Reply:
        """Run one call to its end."""
        environ = {"CNI_COMMAND": verb, "CNI_PATH": "/opt/cni/bin"}
        if container_id:
            environ |= {"CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname}
        if box is not None:
            environ["CNI_NETNS"] = box if isinstance(box, str) else str(box.netns)
        if args is not None:
            environ["CNI_ARGS"] = args
        given = msgspec.json.encode(self.conf() if conf is None else conf) if raw is None else raw
        done = self.lab.node.run([str(self.executable)], input=given, env=environ, check=False)
        document = msgspec.json.decode(done.stdout) if done.stdout else {}
        assert done.returncode in (0, 1), done
        return Reply(done.returncode, document, done.stderr.decode())

    def add(self, container_id: str, box: Host | str, **options: Any) -> dict[str, Any]:
        """ADD that must succeed; the result."""
        reply = self.call("ADD", container_id, box, **options)
        assert reply.status == 0, reply
        return reply.document

    def delete(self, container_id: str, **options: Any) -> None:
        """DEL that must succeed and say nothing."""
        reply = self.call("DEL", container_id, **options)
        assert (reply.status, reply.document, reply.stderr) == (0, {}, "")
