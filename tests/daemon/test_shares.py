"""What one group of a node's users has of it is not all there is: root, and other groups, find room."""

import os
from collections.abc import Iterator

import pytest

from cellwall.lab import Lab
from daemon.served import Answer, Daemon, ask_as, served

pytestmark = pytest.mark.root
SOCKET, CI, DEV = 6000, 6100, 6101
CONFIGURATION = f"""
[network]
subnet4 = "10.77.0.0/27"
[daemon]
group = "{SOCKET}"
allow = ["{CI} attach,detach,expose ci-*", "{DEV} attach,expose dev-*"]
"""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)  # its users reach the socket
        with served(lab, configuration=CONFIGURATION) as daemon:
            assert daemon.ask("POST", "/v1/up").status == 200
            yield daemon


def attach(daemon: Daemon, group: int, container: str, **more: object) -> Answer:
    tenant = {CI: "ci-", DEV: "dev-"}[group] + container
    body = {"container": container, "tenant": tenant, **more}
    return ask_as(daemon, 1000 + group, [SOCKET, group], "POST", "/v1/endpoints", body)


def batch(*names: str) -> tuple[str, str, object]:
    entries = [{"container": name, "tenant": f"ci-{name}"} for name in names]
    return "POST", "/v1/endpoints/batch", {"endpoints": entries}


def test_the_last_quarter_of_the_sandboxes_is_root_s(daemon: Daemon) -> None:
    share = 29 - 29 // 4
    assert ask_as(daemon, 1000, [SOCKET, CI], *batch(*(f"c{number}" for number in range(share + 1)))).status == 409
    assert ask_as(daemon, 1000, [SOCKET, CI], *batch(*(f"c{number}" for number in range(share)))).status == 200
    refused = attach(daemon, CI, "more")
    assert (refused.status, "the last quarter is root's" in str(refused.document)) == (409, True)
    assert daemon.ask("POST", "/v1/endpoints", {"container": "root-s"}).status == 201
    claim = {"container": "claimed", "tenant": "ci-claimed"}
    assert ask_as(daemon, 1000, [SOCKET, CI], "POST", "/v1/pool/claims", claim).status == 409


def test_what_root_has_is_no_part_of_the_three_quarters(daemon: Daemon) -> None:
    """Also where it is of a tenant that a group may ask for: it is who asked that counts."""
    for tenant in ("", "ci-root"):
        own = [{"container": f"r{tenant}{number}", **({"tenant": tenant} if tenant else {})} for number in range(3)]
        assert daemon.ask("POST", "/v1/endpoints/batch", {"endpoints": own}).status == 200
    share = 29 - 29 // 4
    assert ask_as(daemon, 1000, [SOCKET, CI], *batch(*(f"c{number}" for number in range(share)))).status == 200
    refused = attach(daemon, CI, "more")
    assert f"{share} of 29 sandboxes are others' than root's" in str(refused.document)
    assert daemon.ask("DELETE", "/v1/endpoints/c0/eth0").status in (200, 204)
    assert attach(daemon, CI, "more").status == 201
    path = "/v1/endpoints/r0/eth0/ports"
    assert daemon.ask("POST", path, {"binding": "8080:80"}).status == 200  # who publishes leaves whose it is


def test_one_group_s_ports_leave_some_for_another(daemon: Daemon) -> None:
    assert attach(daemon, CI, "wide", expose=["2000-10191:2000"]).status == 201
    refused = attach(daemon, CI, "wider", expose=["1999:80/udp"])
    assert (refused.status, "have 8192 host ports and ask for 1" in str(refused.document)) == (409, True)
    one_more = ("POST", "/v1/endpoints/wide/eth0/ports", {"binding": "1998:80/udp"})
    assert ask_as(daemon, 1000, [SOCKET, CI], *one_more).status == 409
    assert attach(daemon, DEV, "other", expose=["2000:80/udp"]).status == 201


def test_who_asks_again_for_all_its_ports_is_answered_as_before(daemon: Daemon) -> None:
    asked = {"expose": ["2000-10191:2000"]}
    assert attach(daemon, CI, "wide", **asked).status == 201
    assert attach(daemon, CI, "wide", **asked).status == 200
    path = "/v1/endpoints/wide/eth0/ports"
    again = {"binding": "2000-10191:2000"}
    assert ask_as(daemon, 1000, [SOCKET, CI], "POST", path, again).status == 200


def test_no_port_of_the_node_s_own_connections_is_a_member_s(daemon: Daemon) -> None:
    """The kernel's default range; a late answer to one of them would be the sandbox's."""
    for expose in ("40000:80", "30000-32768:30000/udp"):
        assert attach(daemon, CI, "wide", expose=[expose]).status == 422
    assert daemon.attached() == set()
    assert attach(daemon, CI, "plain").status == 201
    path = "/v1/endpoints/plain/eth0/ports"
    assert ask_as(daemon, 1000, [SOCKET, CI], "POST", path, {"binding": "40000:80"}).status == 422
    assert daemon.ask("POST", path, {"binding": "40000:80"}).status == 200
