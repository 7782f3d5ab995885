"""`cellwall serve` as a process of a lab's node, what it tells a service manager, and what it answers."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cellwall.client import Client
from cellwall.config import drop_mode_record, paths_for
from cellwall.lab import Lab
from world import World

PATIENCE = 30.0
PROGRAM = (
    "import cellwall; cellwall.__version__ = {version!r}; import cellwall.cli.main as c; raise SystemExit(c.main())"
)
BECOME = """
import fcntl, os, sys
end = sys.argv.index("--")
given = [int(fd) for fd in sys.argv[1:end]]
apart = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 512) for fd in given]
for fd in given:
    os.close(fd)
for number, fd in enumerate(apart):
    os.dup2(fd, 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""
SOURCE = Path(__file__).parents[2] / "src"


class Answer(msgspec.Struct, frozen=True):
    """What a call was answered with."""

    status: int
    document: Any


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = PATIENCE) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """A running `cellwall serve`, or one that was; `start` starts it again."""

    def __init__(self, lab: Lab, *, configuration: str = "", version: str = "") -> None:
        self.lab = lab
        self.paths = paths_for(lab.root)
        self.version = version
        self.said: list[str] = []
        self.environ: dict[str, str] = {}
        self.prefix: Sequence[str] = ()
        self.keeps = False
        self._read = 0
        self._heard: list[str] = []
        self.store: dict[str, list[int]] = {}
        self.pass_fds: Sequence[int] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"\0cellwall-{os.getpid()}-{id(self)}")
        self._notify.settimeout(PATIENCE)
        self.configure(configuration)

    def configure(self, more: str = "", mode: str = "daemon") -> None:
        """Write the configuration file."""
        self.paths.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.paths.config_file.write_text(f'[node]\nmode = "{mode}"\n{more}\n')

    def start(self, *, ready: bool = True) -> "Daemon":
        """Start it; with `ready` it has taken the node over."""
        self._drain()
        program = ["-c", PROGRAM.format(version=self.version)] if self.version else ["-m", "cellwall.cli.main"]
        argv = [sys.executable, *program, "--root", str(self.lab.root), "-v", "serve"]
        address = self._notify.getsockname()
        name = address.decode().replace("\0", "@") if isinstance(address, bytes) else address
        environ = {**os.environ, "PYTHONPATH": str(SOURCE), "NOTIFY_SOCKET": name, **self.environ}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen([*self.prefix, *argv], env=environ, stderr=log, pass_fds=self.pass_fds)
        if ready:
            self.until("READY=1")
        return self

    @property
    def log(self) -> Path:
        return self.lab.root / "serve.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def until(self, word: str) -> str:
        """The next message to the service manager with this word."""
        while True:
            try:
                text = self._heard.pop(0) if self._heard else self._hear()
            except TimeoutError:
                raise AssertionError(f"no {word}: {self.said}, {self.log.read_text()}") from None
            if word in text:
                return text

    def reload(self) -> str:
        """Have it read anew who may ask for what; what it says then."""
        self.process.send_signal(signal.SIGHUP)
        self.until("RELOADING=1")
        return self.until("READY=1")

    def heard(self) -> None:
        """Take all that it has said by now to its service manager, and keep what it was to keep."""
        self._notify.setblocking(False)
        try:
            while True:
                self._heard.append(self._hear())
        except BlockingIOError:
            self._notify.settimeout(PATIENCE)

    def _hear(self) -> str:
        raw, fds, _, _ = socket.recv_fds(self._notify, 4096, 4)
        text = raw.decode()
        self.said.append(text)
        if "FDSTOREREMOVE=1" in text:
            self._forget(text)
        self._store(text, fds)
        return text

    def logged(self, words: str) -> str:
        """The next line of the log with these words."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with open(self.log) as log:
                log.seek(self._read)
                for line in iter(log.readline, ""):
                    if not line.endswith("\n"):
                        break
                    self._read = log.tell()
                    if words in line:
                        return line
            assert time.monotonic() < deadline, f"not a word of {words!r}: {self.log.read_text()}"
            time.sleep(0.01)

    def _store(self, text: str, fds: Sequence[int]) -> None:
        """Keep descriptors, as a service manager does; without one, nobody does."""
        if fds and self.keeps:
            self.store.setdefault(_named(text), []).extend(fds)
            return
        for fd in fds:
            os.close(fd)

    def _forget(self, text: str) -> None:
        self.lose(_named(text))

    def lose(self, name: str) -> None:
        """Have what was kept by that name kept no longer."""
        for fd in self.store.pop(name, []):
            os.close(fd)

    def give_back(self) -> None:
        """Have the next start be given what was kept."""
        kept = [(name, fd) for name, fds in self.store.items() for fd in fds]
        self.pass_fds = [fd for _, fd in kept]
        self.prefix = [sys.executable, "-c", BECOME, *map(str, self.pass_fds), "--"]
        self.environ = {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(name for name, _ in kept)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it in order; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def ask(self, method: str, path: str, body: object = None, *, timeout: float = PATIENCE) -> Answer:
        """One call over a connection of its own. What it had to say by then is taken, as by a service manager."""
        self.heard()
        connection = UnixConnection(self.paths.socket, timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            raw = response.read()
            return Answer(response.status, json.loads(raw) if raw else None)
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.document

    def attach(self, container: str, **options: object) -> Any:
        answer = self.ask("POST", "/v1/endpoints", {"container": container, **options})
        assert answer.status in (200, 201), answer
        return answer.document["endpoint"]

    def attached(self) -> set[str]:
        return {endpoint["container"] for endpoint in self.get("/v1/endpoints")["endpoints"]}

    def close(self) -> None:
        """Whatever runs is killed, and the node is anybody's again."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if any("READY=1" in text for text in self.said):  # a second one leaves the first's
            drop_mode_record(self.paths)
        self._notify.close()
        for name in list(self.store):
            self.lose(name)

    def _drain(self) -> None:
        self._notify.setblocking(False)
        self._heard.clear()
        try:
            while True:
                self._notify.recv(4096)
        except BlockingIOError:
            self._notify.settimeout(PATIENCE)


def _named(text: str) -> str:
    """Which descriptor a message is about."""
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith("FDNAME="))


def ask_as(daemon: Daemon, user: int, groups: Sequence[int], method: str, path: str, body: object = None) -> Answer:
    """One call by a process of another user, over the real socket."""
    # It loads nothing of ours: that would take longer than what it asks for.
    program = (
        "import http.client, socket, sys; c = http.client.HTTPConnection('localhost');"
        f"c.sock = socket.socket(socket.AF_UNIX); c.sock.settimeout({PATIENCE}); c.sock.connect(sys.argv[1]);"
        "c.request(sys.argv[2], sys.argv[3], sys.argv[4] or None); r = c.getresponse();"
        "print(r.status); print(r.read().decode())"
    )
    identity = [f"--reuid={user}", f"--regid={user}", f"--groups={','.join(map(str, groups))}"]
    argv = [daemon.paths.socket, method, path, "" if body is None else json.dumps(body)]
    called = ["setpriv", *identity, "--", sys.executable, "-ISc", program, *argv]
    done = subprocess.run(called, capture_output=True, text=True, check=True)
    status, _, document = done.stdout.partition("\n")
    return Answer(int(status), json.loads(document) if document.strip() else None)


@contextmanager
def namespace_of(user: int) -> Iterator[str]:
    """A network namespace that this user made, as rootless runtimes do: in a user namespace of its own."""
    argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    inside = ["unshare", "--user", "--map-root-user", "--net", "--", "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen([*argv, *inside], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"/proc/{process.pid}/ns/net"
        finally:
            process.kill()


@contextmanager
def served(lab: Lab, *, keeps: bool = False, **options: str) -> Iterator[Daemon]:
    """A daemon on this node, which has taken it over; whatever becomes of it is over at the end. `keeps`: its service
    manager has a store for descriptors."""
    daemon = Daemon(lab, **options)
    daemon.keeps = keeps
    try:
        yield daemon.start()
    finally:
        daemon.close()


@contextmanager
def served_node(*, keeps: bool = False, **options: str) -> Iterator[tuple[Daemon, World]]:
    """A node with its wall up by its daemon, which is as in `served`; what is asked of it outlives the daemon's
    restarts."""
    with (
        Lab() as lab,
        lab.node.enter(),
        served(lab, keeps=keeps, **options) as daemon,
        Client.open(root=lab.root, patience=60) as client,
    ):
        client.up()
        yield daemon, World(lab, client)
