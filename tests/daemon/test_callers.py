"""Who may do what, by processes of other users over the real socket: a group has its verbs, its tenants and no more."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.client import Client
from cellwall.lab import Lab
from daemon.served import Answer, Daemon, ask_as, namespace_of, served

pytestmark = pytest.mark.root
CI, WEB, SOCKET, RULERS = 5000, 5001, 5002, 5003
MEMBER, OTHER = 1000, 1001
CONFIGURATION = f"""
[daemon]
group = "{SOCKET}"
allow = ["{CI} attach,detach,list,check ci-*", "{WEB} attach,list,expose web,shop-*", "{RULERS} attach,policy ci-*"]
"""
NODE = [
    ("POST", "/v1/up", None),
    ("POST", "/v1/down", {"force": True}),
    ("POST", "/v1/reconcile", None),
    ("GET", "/v1/status", None),
    ("POST", "/v1/cni?CNI_COMMAND=VERSION", None),
]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        with served(lab, configuration=CONFIGURATION) as daemon:
            daemon.attach("secret", tenant="web", expose=["8080:80"])
            yield daemon


def as_ci(daemon: Daemon, method: str, path: str, body: object = None) -> Answer:
    return ask_as(daemon, MEMBER, [CI, SOCKET], method, path, body)


def test_a_member_attaches_shows_checks_and_detaches_for_its_tenants(daemon: Daemon) -> None:
    with namespace_of(MEMBER) as netns:
        made = as_ci(daemon, "POST", "/v1/endpoints", {"container": "job", "tenant": "ci-1", "netns": netns})
        assert made.status == 201, made
        listed = as_ci(daemon, "GET", "/v1/endpoints").document["endpoints"]
        assert [endpoint["container"] for endpoint in listed] == ["job"]
        assert as_ci(daemon, "GET", "/v1/endpoints/job/eth0").status == 200
        assert as_ci(daemon, "GET", "/v1/endpoints/job/eth0/findings").document == {"findings": []}
        assert as_ci(daemon, "DELETE", "/v1/endpoints/job/eth0").document == {"detached": True}


@pytest.mark.parametrize(("method", "path", "body"), NODE, ids=[path for _, path, _ in NODE])
def test_nothing_of_the_node_is_a_members(daemon: Daemon, method: str, path: str, body: object) -> None:
    assert as_ci(daemon, method, path, body).status == 403
    assert "secret" in daemon.attached()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/endpoints/{}/eth0", None),
        ("GET", "/v1/endpoints/{}/eth0/findings", None),
        ("DELETE", "/v1/endpoints/{}/eth0", None),
        ("POST", "/v1/endpoints/detach", {"endpoints": [{"container": "{}"}]}),
    ],
)
def test_another_tenants_endpoint_is_as_one_that_is_not_there(
    daemon: Daemon, method: str, path: str, body: dict[str, list[dict[str, str]]] | None
) -> None:
    def answer(container: str) -> Answer:
        asked = {"endpoints": [{"container": container}]} if body else None
        found = as_ci(daemon, method, path.format(container), asked)
        return Answer(found.status, str(found.document).replace(container, "X"))

    assert answer("secret") == answer("absent")
    assert "secret" in daemon.attached()


@pytest.mark.parametrize("tenant", ["web", "ci", "other", None])
def test_a_member_attaches_for_no_other_tenant(daemon: Daemon, tenant: str | None) -> None:
    body = {"container": "job", "tenant": tenant} if tenant else {"container": "ci-1"}
    assert as_ci(daemon, "POST", "/v1/endpoints", body).status == 403
    both = {"endpoints": [{"container": "good", "tenant": "ci-1"}, body]}
    assert as_ci(daemon, "POST", "/v1/endpoints/batch", both).status == 403
    assert daemon.attached() == {"secret"}


def test_a_member_takes_no_container_over_by_its_name(daemon: Daemon) -> None:
    answer = as_ci(daemon, "POST", "/v1/endpoints", {"container": "secret", "tenant": "ci-1"})
    assert (answer.status, answer.document["detail"]) == (409, "container id: secret/eth0: is taken")


def test_a_member_without_the_verb_publishes_no_port(daemon: Daemon) -> None:
    body = {"container": "job", "tenant": "ci-1", "expose": ["8081:80"]}
    assert as_ci(daemon, "POST", "/v1/endpoints", body).status == 403
    assert as_ci(daemon, "POST", "/v1/endpoints/secret/eth0/ports", {"binding": "8081:80"}).status == 403


def test_whose_a_taken_port_is_a_member_is_not_told(daemon: Daemon) -> None:
    daemon.attach("hidden", tenant="other", expose=["8099:80"])
    try:
        body = {"container": "shop", "tenant": "web", "expose": ["8099:80"]}
        answer = ask_as(daemon, OTHER, [WEB, SOCKET], "POST", "/v1/endpoints", body)
        assert answer.status == 409
        assert "hidden" not in str(answer.document)
        assert "hidden" in str(daemon.ask("POST", "/v1/endpoints", body).document)
    finally:
        daemon.ask("DELETE", "/v1/endpoints/hidden/eth0")


def test_a_member_joins_no_namespace_of_somebody_else(daemon: Daemon) -> None:
    with namespace_of(OTHER) as theirs:
        for netns in (theirs, "/proc/self/ns/net", f"/proc/{daemon.process.pid}/ns/net", "/dev/null"):
            body = {"container": "job", "tenant": "ci-1", "netns": netns}
            assert as_ci(daemon, "POST", "/v1/endpoints", body).status == 403, netns
    assert daemon.attached() == {"secret"}


def test_what_is_at_a_path_a_member_is_not_told(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/shadow")
    of_daemon = f"/proc/{daemon.process.pid}/fd"
    places = ["/etc/shadow", "/etc/shadow/x", "/etc/absent", f"{tmp_path}/link", f"{of_daemon}/3", f"{of_daemon}/999"]
    places += [daemon.paths.in_run("netns", name) for name in ("secret", "absent")]
    told = set()
    for place in (*places, "relative", "a\0b", "x" * 5000, ""):
        answer = as_ci(daemon, "POST", "/v1/endpoints", {"container": "job", "tenant": "ci-1", "netns": place})
        told.add((answer.status, answer.document["detail"].replace(place, "PATH", 1) if place else ""))
    assert len({status for status, _ in told}) == 1, told
    assert len({detail for _, detail in told if detail}) == 1, told


def test_who_is_in_the_sockets_group_alone_learns_the_version(daemon: Daemon) -> None:
    assert ask_as(daemon, OTHER, [SOCKET], "GET", "/v1/version").status == 200
    assert ask_as(daemon, OTHER, [SOCKET], "GET", "/v1/endpoints").status == 403


def test_who_is_not_in_the_sockets_group_does_not_connect(daemon: Daemon) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        ask_as(daemon, OTHER, [CI, WEB], "GET", "/v1/version")


def test_a_client_follows_links_itself(daemon: Daemon, tmp_path: Path) -> None:
    with namespace_of(MEMBER) as netns, Client.open(root=daemon.lab.root) as client:
        (tmp_path / "one").symlink_to(netns)
        (tmp_path / "two").symlink_to("one")
        assert client.attach("linked", netns=tmp_path / "two").netns == netns
        assert client.detach("linked")


def as_ruler(daemon: Daemon, method: str, path: str, body: object = None) -> Answer:
    return ask_as(daemon, MEMBER, [RULERS, SOCKET], method, path, body)


def test_a_member_writes_the_policies_of_its_tenants_and_sees_no_others(daemon: Daemon) -> None:
    assert daemon.ask("PUT", "/v1/policies/web", {"mode": "block"}).status == 200
    try:
        assert as_ruler(daemon, "PUT", "/v1/policies/ci-1", {"mode": "block"}).status == 200
        assert list(as_ruler(daemon, "GET", "/v1/policies").document["policies"]) == ["ci-1"]
        for method, body in (("GET", None), ("PUT", {"mode": "open"}), ("PATCH", {"mode": "open"}), ("DELETE", None)):
            there, absent = (as_ruler(daemon, method, f"/v1/policies/{tenant}", body) for tenant in ("web", "wob"))
            assert there.status == absent.status == 403
            assert str(there.document).replace("web", "wob")[:60] == str(absent.document)[:60]
        assert daemon.get("/v1/policies/web")["policy"]["mode"] == "block"
    finally:
        for tenant in ("web", "ci-1"):
            daemon.ask("DELETE", f"/v1/policies/{tenant}")


def test_the_policy_of_another_tenants_endpoint_is_as_one_that_is_not_there(daemon: Daemon) -> None:
    for method, body in (("GET", None), ("PUT", {"mode": "block"}), ("DELETE", None)):
        there, absent = (
            as_ruler(daemon, method, f"/v1/endpoints/{name}/eth0/policy", body) for name in ("secret", "absent")
        )
        assert there.status == absent.status == 404
        assert str(there.document).replace("secret", "absent") == str(absent.document)


def test_a_member_without_the_verb_writes_no_policy_by_an_attach_either(daemon: Daemon) -> None:
    body = {"container": "job", "tenant": "ci-1", "policy": {"mode": "block"}}
    assert as_ci(daemon, "POST", "/v1/endpoints", body).status == 403
    assert as_ci(daemon, "PUT", "/v1/policies/ci-1", {"mode": "block"}).status == 403
    assert as_ruler(daemon, "POST", "/v1/endpoints", body).status == 201
    assert daemon.ask("DELETE", "/v1/endpoints/job/eth0").status == 200


def test_a_member_publishes_no_port_of_the_nodes_services(daemon: Daemon) -> None:
    """Nobody may listen there in this moment: the node's own service that starts anew would be the tenant's."""

    def as_web(method: str, path: str, body: object) -> Answer:
        return ask_as(daemon, MEMBER, [WEB, SOCKET], method, path, body)

    with namespace_of(MEMBER) as netns:
        body = {"container": "low", "tenant": "shop-1", "netns": netns}
        assert as_web("POST", "/v1/endpoints", {**body, "expose": ["1023-1030:1023"]}).status == 403
        batch = {"endpoints": [{**body, "expose": ["22:22"]}]}
        assert as_web("POST", "/v1/endpoints/batch", batch).status == 403
        assert as_web("POST", "/v1/endpoints", {**body, "expose": ["1024:22"]}).status == 201
        assert as_web("POST", "/v1/endpoints/low/eth0/ports", {"binding": "22:22"}).status == 403
        assert as_web("POST", "/v1/endpoints/low/eth0/ports", {"binding": "1025:22"}).status == 200
        assert daemon.ask("POST", "/v1/endpoints/low/eth0/ports", {"binding": "1022:22"}).status == 200
        assert daemon.ask("DELETE", "/v1/endpoints/low/eth0").status == 200
