"""Real HTTP over the lab's wires: a server in any host's namespace, and a client in any other's.

Owns: one dual-stack listener per server and the record of every connection that was accepted, which is how an
attempt is judged: by what its victim saw, never by what its sender was told.
"""

import socket
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from cellwall.errors import LabError
from cellwall.lab import Host


class Page(msgspec.Struct, frozen=True):
    """What came back of a request: `text` the body, or "" with the reason in `failure`."""

    text: str
    failure: str = ""


class WebServer:
    """Pages by path, on one port of every address of `host`."""

    def __init__(self, host: Host, port: int, pages: Mapping[str, str]) -> None:
        listener = host.socket(socket.AF_INET6 if host.ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host.ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("", port))
        listener.listen(64)
        self.visitors: list[str] = []
        self._server = _Server(listener, pages, self.visitors.append)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=f"web-{host.name}")
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "WebServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, pages: Mapping[str, str], visited: Callable[[str], None]) -> None:
        self.pages = pages
        self._visited = visited
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._visited(str(address[0]).removeprefix("::ffff:"))
        return connection, address


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        body = (page if page is not None else "no such page\n").encode()
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The record is kept by the server; standard error is the story's."""


def fetch(host: Host, address: str, port: int, path: str = "/", *, timeout: float = 10.0) -> Page:
    """Ask for a page from inside `host`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        connection = HTTPConnection(address, port, timeout=timeout)
        try:
            sock.connect((address, port))
            connection.sock = sock  # made in the host's namespace, which http.client cannot
            connection.request("GET", path)
            return Page(connection.getresponse().read().decode().strip())
        except (OSError, HTTPException) as error:
            return Page("", _reason(error))


def resolve(host: Host, resolver: str, name: str, *, timeout: float = 10.0) -> str:
    """The IPv4 address of a name, asked from inside `host` over UDP. LabError where no answer has one."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect((resolver, 53))
            sock.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + question)
            answer = sock.recv(512)
        except OSError as error:
            raise LabError(f"{name}: no answer from {resolver}: {_reason(error)}") from error
    if answer[:2] != b"\x12\x34" or int.from_bytes(answer[6:8], "big") != 1:
        raise LabError(f"{name}: {resolver} knows no address")
    return socket.inet_ntoa(answer[-4:])  # the only record, and an A record ends with its address


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
