"""Each call asks for its own verb, for the tenant that it is about: every other verb for that tenant, and this one for
another, gets nothing of it."""

import os
from collections.abc import Iterator

import pytest

from cellwall.lab import Lab
from cellwall.wire.calls import CALLS, Call
from daemon.served import Answer, Daemon, ask_as, namespace_of, served

pytestmark = pytest.mark.root
SOCKET, USER = 6000, 1000
VERBS = ("attach", "detach", "list", "expose", "check", "policy")
HERE = {verb: 6100 + number for number, verb in enumerate(VERBS)}
ELSEWHERE = {verb: 6200 + number for number, verb in enumerate(VERBS)}
GRANTS = [f"{gid} {verb} ci-1" for verb, gid in HERE.items()] + [f"{gid} {verb} web" for verb, gid in ELSEWHERE.items()]
CONFIGURATION = f"""
[daemon]
group = "{SOCKET}"
allow = [{", ".join(f'"{grant}"' for grant in GRANTS)}]
"""
ABOUT_A_TENANT = [call for call in CALLS if call.verb in VERBS and call.name != "dns"]
BODIES = {
    "expose": {"binding": "8081:80"},
    "reserve": {"count": 1, "tenant": "ci-1"},
    "detach-many": {"endpoints": [{"container": "job"}]},
    "set-policy": {"mode": "block"},
    "patch-policy": {"mode": "block"},
    "set-own-policy": {"mode": "block"},
    "patch-own-policy": {"mode": "block"},
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        with served(lab, configuration=CONFIGURATION) as daemon:
            yield daemon


@pytest.fixture
def job(daemon: Daemon) -> Iterator[None]:
    """An endpoint of the tenant, and its policy."""
    daemon.attach("job", tenant="ci-1", expose=["8080:80"])
    daemon.ask("PUT", "/v1/policies/ci-1", {"mode": "open"})
    daemon.ask("PUT", "/v1/reservations/job", {"count": 1, "tenant": "ci-1"})
    yield
    daemon.ask("DELETE", "/v1/endpoints/job/eth0")
    daemon.ask("DELETE", "/v1/policies/ci-1")


def asked(daemon: Daemon, call: Call, groups: list[int], netns: str) -> Answer:
    path = call.path.format(container="job", ifname="eth0", tenant="ci-1")
    if call.query:
        path += "?binding=8080:80"
    new = {"container": "new", "tenant": "ci-1", "netns": netns}
    body = {"attach": new, "claim": new, "attach-many": {"endpoints": [new]}}.get(call.name, BODIES.get(call.name))
    return ask_as(daemon, USER, [SOCKET, *groups], call.method, path, body)


@pytest.mark.parametrize("call", ABOUT_A_TENANT, ids=lambda call: call.name)
def test_a_call_is_refused_to_whoever_has_every_other_verb(daemon: Daemon, job: None, call: Call) -> None:
    others = [gid for verb, gid in HERE.items() if verb != call.verb] + [ELSEWHERE[call.verb]]
    with namespace_of(USER) as netns:
        answer = asked(daemon, call, others, netns)
        allowed = asked(daemon, call, [HERE[call.verb]], netns)
    daemon.ask("DELETE", "/v1/endpoints/new/eth0")
    if call.name in ("list", "policies", "reservations", "traffic"):
        assert "ci-1" not in str(answer.document)
        assert "ci-1" in str(allowed.document)
    elif call.name == "detach":
        assert (answer.document, allowed.document) == ({"detached": False}, {"detached": True})
    elif call.name == "release":
        assert (answer.document, allowed.document) == ({"released": 0}, {"released": 1})
    elif call.name == "detach-many":
        assert (answer.document, allowed.document) == ({"detached": 0}, {"detached": 1})
    else:
        assert answer.status in (403, 404), answer
        assert allowed.status in (200, 201), allowed
