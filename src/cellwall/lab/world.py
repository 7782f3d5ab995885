"""A lab: a node and the world around it, made of network namespaces and thrown away afterwards.

Owns: the life of it all. The record is written before the first namespace and deleted after the last, so
that a sweep finds whatever a killed process left; each start sweeps first. Refuses to start where the
safety gate says no, and raises at the end where the machine's own namespace is not as it was.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from cellwall.adapters.sandbox import netns
from cellwall.errors import CellwallError, LabError
from cellwall.lab import addresses, namespaces, records, safety, topology
from cellwall.lab.custody import Custody
from cellwall.lab.dns import NameServer
from cellwall.lab.ending import signals_held
from cellwall.lab.host import Host


class Lab:
    """A running lab; `close` ends it, as does leaving the `with` block."""

    def __init__(self, *, prefix: str | None = None, ipv6: bool = True, offload: bool = False) -> None:
        """Build the lab. `ipv6=False` gives hosts without IPv6, as does a kernel without it. `offload=True` leaves the
        node's cards what a veth is: fast, and without the checksums that a card writes; for measurements."""
        self.prefix = namespaces.check_prefix(prefix or namespaces.free_prefix())
        self._kernel6 = Path("/proc/sys/net/ipv6").exists()
        self.ipv6 = ipv6 and self._kernel6
        safety.check_machine()
        # What an earlier lab left and cannot be removed is no reason not to start this one.
        with suppress(CellwallError):
            records.sweep()
        safety.check_prefix_free(self.prefix)
        self._before = safety.snapshot()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._custody = Custody()
        self._sandboxes: dict[str, Host] = {}
        self._closed = False
        self._pid = os.getpid()
        self.root = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        try:
            records.register(self.prefix, self.root)
        except BaseException:
            shutil.rmtree(self.root)
            os.close(self._home)
            raise
        atexit.register(self.close)
        try:
            self._build(offload)
        except BaseException:
            with suppress(Exception):
                self.close()
            raise

    def _build(self, offload: bool) -> None:
        self._hosts = self._create(topology.HOSTS, ipv6=self.ipv6)
        topology.wire_up(self._hosts, self.prefix, ipv6=self.ipv6, offload=offload)
        self.node, self.lan = self._hosts["node"], self._hosts["lan"]
        self.internet, self.wire = self._hosts["internet"], self._hosts["wire"]
        self.infra, self.other = self._hosts["infra"], self._hosts["other"]
        resolvers = addresses.RESOLVERS4 + (addresses.RESOLVERS6 if self.ipv6 else ())
        NameServer(self._custody.loop, self.internet.socket, resolvers)
        self._check_enclosed()

    def sandbox(self, name: str) -> Host:
        """A new empty namespace: lo down, nothing else. LabError where the lab has that host already."""
        return self.sandboxes([name])[0]

    def sandboxes(self, names: Sequence[str]) -> list[Host]:
        """Many at once, for a fraction of the time."""
        for name in names:
            namespaces.check_name(name)
            if name in self._hosts or name in self._sandboxes or names.count(name) > 1:
                raise LabError(f"host: {name!r}: the lab has it already")
        # A tenant's namespace has IPv6 whatever the node has: that is the hostile case.
        made = self._create(names, ipv6=self._kernel6)
        self._sandboxes.update(made)
        for host in made.values():
            topology.start_plain(host)
        return list(made.values())

    def delete_sandbox(self, host: Host) -> None:
        """Delete a sandbox before the lab ends, as a runtime would; tolerates that it is gone. Its name is free."""
        if self._sandboxes.pop(host.name, None) is None:
            raise LabError(f"host: {host.name!r}: is not a sandbox of this lab")
        namespaces.delete_namespaces([host.netns])

    def _create(self, names: Sequence[str], *, ipv6: bool) -> dict[str, Host]:
        namespaces.create_namespaces(self.prefix, names)
        return {name: Host(name, namespaces.path_of(self.prefix, name), self._custody, ipv6=ipv6) for name in names}

    def outside(self) -> AbstractContextManager[None]:
        """The calling thread is where the lab was opened from, inside the block: another lab can be opened there."""
        return netns.entered(self._home)

    def close(self) -> None:
        """End the lab; a second call does nothing. Goes on after a failure or an interruption, and raises all at the
        end."""
        # A forked child inherits this object and its atexit entry, but the lab is its parent's.
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        atexit.unregister(self.close)
        failures: list[Exception] = []
        with signals_held():
            for step in (self._check_enclosed, self._custody.close, self._remove, self._check_machine):
                _attempt(step, failures)
            os.close(self._home)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup(f"lab {self.prefix} did not end cleanly", failures)

    def _check_enclosed(self) -> None:
        safety.check_enclosed(namespaces.namespaces_of(self.prefix), self._home)

    def _remove(self) -> None:
        records.remove(self.prefix, self.root)

    def _check_machine(self) -> None:
        # Looked at from where the lab was started; whoever closes it may be elsewhere by now.
        with self.outside():
            safety.check_unchanged(self._before, safety.snapshot())

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attempt(step: Callable[[], None], failures: list[Exception]) -> None:
    try:
        step()
    except Exception as error:
        failures.append(error)
