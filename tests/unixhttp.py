"""requests over a unix socket, for programs that only speak to it."""

import http.client
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from served import connected


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("cellwall")
        self._path = path

    def connect(self) -> None:
        self.sock = connected(self._path)


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("cellwall")
        self._path = path

    def _new_conn(self) -> http.client.HTTPConnection:  # type: ignore[override]
        return _Connection(self._path)


class _Adapter(HTTPAdapter):
    def __init__(self, path: str) -> None:
        self._pool = _Pool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self._pool

    def get_connection(self, *_: Any, **__: Any) -> Any:
        return self._pool

    def close(self) -> None:
        super().close()
        self._pool.close()


def session(path: str) -> requests.Session:
    """A session whose every address is the socket."""
    made = requests.Session()
    made.mount("http://", _Adapter(path))
    return made
