"""How the node is, and what failed inside the daemon, is root's to know."""

import errno
import json
import os
import socket
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.errors import KernelError
from cellwall.model.endpoint import EndpointKey
from cellwall.model.grants import parse_grant
from daemon.test_bounds import connected_as, problem, rest
from served import open_served
from world import Wrapped

pytestmark = pytest.mark.root
USER = 12345
AUTHORITY = Authority([Granted(USER, parse_grant(f"{USER} check,expose acme", "daemon.allow"))])
BINDING = "8080:80"
SECRET = "add element inet cellwall secret"


def test_a_member_is_told_of_its_endpoint_and_not_of_the_node() -> None:
    with open_served(authority=AUTHORITY) as served:
        served.world.wall.attach("web", tenant="acme")
        served.world.lab.node.run(["tc", "filter", "del", "dev", "b9_br0", "ingress", "pref", "2"])
        root, member = (Asker(peer, AUTHORITY) for peer in (Peer(0), Peer(USER, frozenset({USER}))))
        key = EndpointKey("web")
        assert any("bridge b9_br0" in line for line in served.run(lambda: served.node.endpoints.findings(root, key)))
        assert served.run(lambda: served.node.endpoints.findings(member, key)) == ()


def test_what_the_kernel_refused_is_roots_to_know() -> None:
    def broken(wall: Wall) -> Any:
        def expose(*_: object, **__: object) -> None:
            raise KernelError(errno.EPERM, SECRET)

        return Wrapped(wall, expose=expose)

    with open_served(authority=AUTHORITY, wrap=broken) as served:
        os.chmod(served.path, 0o666)
        os.chmod(served.world.lab.root, 0o755)
        served.world.wall.attach("web", tenant="acme")
        with served.connect() as plain:
            answer = plain.ask("POST", "/v1/endpoints/web/eth0/ports", {"binding": BINDING})
            assert SECRET in answer.document["detail"]
        with connected_as(served.path, USER) as sock:
            told = problem(_asked(sock))
    assert (told["status"], told["type"]) == (500, "urn:cellwall:problem:internal")
    assert SECRET not in str(told)


def _asked(sock: socket.socket) -> bytes:
    body = json.dumps({"binding": BINDING}).encode()
    head = f"POST /v1/endpoints/web/eth0/ports HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    sock.sendall(head.encode() + b"\r\n\r\n" + body)
    return rest(sock)
