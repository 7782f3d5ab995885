"""The plugin on a node whose daemon writes: a process that hands the call over and passes the answer on.

A runtime starts a process per call. What this one imports beside the interpreter is a socket: the call goes as it came,
the environment in the address and standard input as the body, and what comes back is what the plugin writes. Nothing of
either is read here, so no word of a configuration leads this process to another socket than the operator's.

Whatever is not such an answer is left to the whole plugin, `cellwall.cni.main`: a node without a daemon, a call for
another node than the daemon's, a daemon that is missing or refuses.
"""

import _socket
import posix
import sys
import time

TYPE_CHECKING = False  # typing is what it costs to ask it
if TYPE_CHECKING:
    from collections.abc import Mapping

OURS, FAILED, ELSEWHERE, LATER, TOO_LARGE, MISSING, SILENT = 200, 422, 421, 503, 431, 0, 1
"""The statuses of HTTP by which a daemon answers a call: the result; the error object; a call for another node; no room
just now, or on its way out; more words than it reads. MISSING: nobody answered. SILENT: somebody is there, and gave no
answer in time, or none that ends: to ask again would only wait again."""

PATIENCE = 5.0
"""For how many seconds nobody may be at the socket, or no room in the queue: a restart takes a fraction of one."""

_ANSWER = 60.0  # seconds for the whole of one; runtimes give up earlier or not at all
_LARGEST = 1 << 20  # octets of one, which has a few hundred
_LONGEST_LINE = 8190  # octets, which is what a daemon reads of the first line (cellwall.daemon.bounds)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_LONGEST = 108  # linux/un.h UNIX_PATH_MAX, with the zero at the end
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


def run(root: str) -> None:
    """Answer the call that this process was started for, and end it. `root`: the launcher's.

    Without tearing the interpreter down: everything is closed and written, and the rest costs milliseconds."""
    status = _status(root)
    sys.stderr.flush()
    posix._exit(status)


def _status(root: str) -> int:
    environ = posix.environ
    base = root.encode() or environ.get(b"CELLWALL_ROOT") or b"/"
    try:
        raw = _read_input()
    except OSError:
        return _whole(None)
    if environ.get(b"CNI_COMMAND") == b"VERSION" or not base.startswith(b"/") or not daemon_writes(base):
        return _whole(raw)
    status, body = ask(base, environ, raw)
    if status == ELSEWHERE:
        return _whole(raw)
    if status not in (OURS, FAILED):
        return _whole(raw, status, body)
    while body:
        body = body[posix.write(1, body) :]
    if status == OURS and environ.get(b"CNI_COMMAND") == b"ADD":
        _note_delivery(base, environ)
    return int(status == FAILED)


def _note_delivery(base: bytes, environ: "Mapping[bytes, bytes]") -> None:
    """What `cellwall.cni.ledger` notes once the runtime has the result, which only this process can know. The daemon
    found the two names to be names, and no paths."""
    record = b"%b/run/cellwall/cni/%b/%b." % (base, environ[b"CNI_CONTAINERID"], environ[b"CNI_IFNAME"])
    try:
        posix.rename(record + b"pending", record + b"delivered")
    except FileNotFoundError:
        return


def daemon_writes(base: bytes) -> bool:
    """The record of `cellwall.config.mode`; False for one that says something else, which is for that to judge."""
    try:
        descriptor = posix.open(base + b"/run/cellwall/mode", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        return posix.read(descriptor, 64).strip() == b"daemon"
    except OSError:
        return False
    finally:
        posix.close(descriptor)


def ask(base: bytes, environ: "Mapping[bytes, bytes]", raw: bytes) -> tuple[int, bytes]:
    """The daemon's status and answer; MISSING where nobody was there for as long as `PATIENCE`.

    A connection that ends before the answer is whole is tried again: the call may have been carried out, and the same
    call once more finds that (an ADD by the ledger)."""
    message = message_of(environ, raw)
    if message.find(b"\r\n") > _LONGEST_LINE:
        return TOO_LARGE, b""  # a refusal may get lost behind what nobody reads, and would be waited for
    deadline, pause = 0.0, _FIRST_PAUSE
    while True:
        status, body = _once(base + b"/run/cellwall-api/cellwall.sock", message)
        now = time.monotonic()
        deadline = deadline or now + PATIENCE  # from the first failure on: an answer may take longer than that
        if status not in (LATER, MISSING) or now > deadline:
            return status, body
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _once(socket: bytes, message: bytes) -> tuple[int, bytes]:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    deadline = time.monotonic() + _ANSWER
    said = b""
    try:
        connection.settimeout(_ANSWER)
        _connect(connection, socket)
        connection.sendall(message)
        while chunk := connection.recv(1 << 16):
            said += chunk
            left = deadline - time.monotonic()
            if left <= 0 or len(said) > _LARGEST:
                return SILENT, b""
            connection.settimeout(left)
    except TimeoutError:
        return SILENT, b""
    except OSError:
        return MISSING, b""
    finally:
        connection.close()
    return parse_answer(said)


def _connect(connection: _socket.socket, path: bytes) -> None:
    if len(path) < _LONGEST:
        return connection.connect(path)
    directory, _, name = path.rpartition(b"/")
    descriptor = posix.open(directory, posix.O_PATH | posix.O_CLOEXEC)
    try:
        connection.connect(b"/proc/self/fd/%d/%b" % (descriptor, name))
    finally:
        posix.close(descriptor)


def parse_answer(said: bytes) -> tuple[int, bytes]:
    """Status and body of a whole answer; MISSING for a part of one."""
    head, end, body = said.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    length = b""
    for field in fields:
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = value.strip()
    if not (end and first.startswith(b"HTTP/1.1 ") and length.isdigit() and int(length) == len(body)):
        return MISSING, b""
    status = first[9:12]
    return int(status) if status.isdigit() else MISSING, body


def message_of(environ: "Mapping[bytes, bytes]", raw: bytes) -> bytes:
    """The call as a request that has the connection to itself. Arguments are an ADD's alone: whatever is wrong with
    them keeps no DEL from cleaning up."""
    unread = () if environ.get(b"CNI_COMMAND") == b"ADD" else (b"CNI_ARGS",)
    pairs = [
        name + b"=" + _encoded(_absolute(value) if name == b"CNI_NETNS" and value else value)
        for name, value in environ.items()
        if (name.startswith(b"CNI_") and name not in (b"CNI_PATH", *unread)) or name == b"CELLWALL_ROOT"
    ]
    return b"".join((
        b"POST /v1/cni?", b"&".join(pairs), b" HTTP/1.1\r\nHost: cellwall\r\nConnection: close\r\n",
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw), raw,
    ))  # fmt: skip


def _absolute(path: bytes) -> bytes:
    """The daemon has a directory of its own to start from."""
    return path if path.startswith(b"/") else posix.getcwdb() + b"/" + path


def _encoded(value: bytes) -> bytes:
    return b"".join(b"%c" % octet if octet in _PLAIN else b"%%%02X" % octet for octet in value)


def _read_input() -> bytes:
    chunks = []
    while chunk := posix.read(0, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def _whole(raw: bytes | None, status: int = -1, body: bytes = b"") -> int:
    """The status of the whole plugin; `status` and `body` are what the daemon said."""
    import os

    import cellwall.lean  # noqa: F401  # first: msgspec is imported as it has it
    from cellwall.cni import main

    if raw is None:
        return main.main()
    if status < 0:
        return main.answer_call(os.environ, raw, main.write_output)
    return main.answer_refused(os.environ, raw, status, body)
