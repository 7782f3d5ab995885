"""Policies over the socket: in force when they are answered, refused where they are wrong, and each tenant's own."""

from collections.abc import Iterator
from typing import Any

import pytest

from cellwall.api import Wall
from cellwall.daemon.asker import Asker
from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.errors import Forbidden, NotFound
from cellwall.model.endpoint import EndpointKey
from cellwall.model.grants import parse_grant
from cellwall.wire.policies import PolicyBody
from served import Plain, Served, open_served
from world import PUBLIC4, Wrapped, assert_connection, assert_no_connection

pytestmark = pytest.mark.root

OPEN = {"mode": "open", "rules": [], "sources": None, "links": False, "monitor": False, "version": 1}
TENANT = "/v1/policies/acme"
OWN = "/v1/endpoints/web/eth0/policy"


@pytest.fixture(scope="module", autouse=True)
def internet(served: Served) -> None:
    """A server outside."""
    served.world.lab.internet.serve(tcp=[80])


@pytest.fixture
def web(served: Served, plain: Plain) -> Iterator[Any]:
    """A sandbox of tenant acme."""
    host = served.world.host("web")
    body = {"container": "web", "netns": str(host.netns), "tenant": "acme"}
    assert plain.ask("POST", "/v1/endpoints", body).status == 201
    yield host
    plain.ask("DELETE", "/v1/endpoints/web/eth0")
    plain.ask("DELETE", TENANT)


@pytest.mark.parametrize("path", [TENANT, OWN])
def test_a_policy_is_in_force_when_it_is_answered(plain: Plain, web: Any, path: str) -> None:
    assert_connection(web, PUBLIC4, 80)
    answer = plain.ask("PUT", path, {"block_network": True})
    assert answer.document["policy"] == {**OPEN, "mode": "block"}
    assert_no_connection(web, PUBLIC4, 80)
    assert plain.ask("GET", path).document == answer.document
    shown = plain.ask("GET", "/v1/endpoints/web/eth0").document["endpoint"]["policies"]
    assert "block" in (shown["tenant"]["mode"], shown["endpoint"]["mode"])
    allowed = plain.ask("PUT", path, {"allow_list": [f"{PUBLIC4}/32"]})
    assert allowed.document["generation"] != answer.document["generation"]
    assert_connection(web, PUBLIC4, 80)
    assert plain.ask("DELETE", path).document == {"removed": True}
    assert plain.ask("DELETE", path).document == {"removed": False}


def test_a_merge_patch_changes_what_it_names(plain: Plain, web: Any) -> None:
    rule = {"action": "deny", "prefix": f"{PUBLIC4}/32", "protocol": "tcp", "ports": 80}
    plain.ask("PUT", TENANT, {"rules": [rule], "sources": ["203.0.113.0/24"]})
    merge = {"Content_Type": "application/merge-patch+json"}
    answer = plain.ask("PATCH", TENANT, {"sources": None, "links": True}, **merge)
    assert answer.document["policy"] == {**OPEN, "rules": [rule], "links": True}
    assert_no_connection(web, PUBLIC4, 80)
    assert plain.ask("PATCH", TENANT, {"rules": None}).document["policy"] == {**OPEN, "links": True}
    assert_connection(web, PUBLIC4, 80)
    assert plain.ask("PUT", TENANT, {}, **merge).status == 415


def test_a_tenant_has_a_policy_before_it_has_an_endpoint(plain: Plain) -> None:
    assert plain.ask("GET", "/v1/policies/team%2Fone").status == 404
    put = plain.ask("PUT", "/v1/policies/team%2Fone", {"mode": "block"})
    assert plain.ask("GET", "/v1/policies").document == {"policies": {"team/one": put.document}}
    assert plain.ask("DELETE", "/v1/policies/team%2Fone").document == {"removed": True}
    assert plain.ask("GET", "/v1/policies").document == {"policies": {}}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "shut"}, "/mode"),
        ({"unheard": 1}, "/unheard"),
        ([], ""),
        ({"rules": [{"action": "allow"}]}, "/rules/0/prefix"),
        ({"rules": [{"action": "allow", "prefix": "1.1.1.1/8"}]}, "/rules/0/prefix"),
        ({"mode": "allow", "rules": [{"action": "allow", "prefix": "169.254.169.254/32"}]}, "/rules/0/prefix"),
        ({"allow_list": ["1.1.1.0/24", "10.0.0.0/8"]}, "/allow_list/1"),
        ({"rules": [{"action": "deny", "prefix": "1.0.0.0/8", "protocol": "tcp", "ports": "9-8"}]}, "/rules/0/ports"),
        ({"block_network": True, "allow_list": []}, "/allow_list"),
        ({"inbound_cidr_allowlist": ["x"]}, "/inbound_cidr_allowlist/0"),
        ({"version": 2}, "/version"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_wrong_policy_is_refused_where_it_is_wrong(plain: Plain, method: str, body: Any, pointer: str) -> None:
    answer = plain.ask(method, TENANT, body)
    assert (answer.status, answer.document["pointer"]) == (422, pointer), answer.document
    assert plain.ask("GET", TENANT).status == 404


def test_an_attach_may_bring_its_policy(served: Served, plain: Plain) -> None:
    host = served.world.host("own")
    body = {"container": "own", "netns": str(host.netns), "block_network": True}
    made = plain.ask("POST", "/v1/endpoints", body)
    assert made.document["endpoint"]["policies"]["endpoint"]["mode"] == "block"
    assert_no_connection(host, PUBLIC4, 80)
    assert plain.ask("DELETE", "/v1/endpoints/own/eth0/policy").document == {"removed": True}
    assert_connection(host, PUBLIC4, 80)
    plain.ask("DELETE", "/v1/endpoints/own/eth0")
    wrong = plain.ask("POST", "/v1/endpoints", {"container": "own", "allow_list": ["1.1.1.0/24", "10.0.0.0/8"]})
    assert (wrong.status, wrong.document["pointer"]) == (422, "/allow_list/1")


def test_a_group_rules_its_own_tenants_and_hears_of_no_other(served: Served, plain: Plain, web: Any) -> None:
    authority = Authority([Granted(7, parse_grant("7 policy,list other", "daemon.allow"))])
    asker = Asker(Peer(uid=1000, groups=frozenset({7})), authority)
    node, web_key = served.node, EndpointKey("web")
    plain.ask("PUT", TENANT, {"mode": "block"})
    mine = served.run(lambda: node.policies.set(asker, "other", PolicyBody(mode="block"), patch=False))
    assert served.run(lambda: node.policies.all(asker, dict)) == {"other": mine}
    for act in (
        lambda: node.policies.one(asker, "acme"),
        lambda: node.policies.set(asker, "acme", PolicyBody(), patch=True),
        lambda: node.policies.remove(asker, "acme"),
    ):
        with pytest.raises(Forbidden):
            served.run(act)
    for act in (
        lambda: node.policies.one(asker, web_key),
        lambda: node.policies.set(asker, web_key, PolicyBody(), patch=False),
        lambda: node.policies.remove(asker, web_key),
    ):
        with pytest.raises(NotFound):
            served.run(act)
    assert served.run(lambda: node.policies.remove(asker, "other"))


def test_an_endpoint_that_changes_hands_amid_the_question_shows_nobody_anothers_policy() -> None:
    authority = Authority([Granted(7, parse_grant("7 policy mine", "daemon.allow"))])
    asker = Asker(Peer(uid=1000, groups=frozenset({7})), authority)

    def handed_over(beside: Wall, wall: Wall) -> Any:
        def endpoint(container: str, *, ifname: str) -> Any:
            seen = beside.endpoint(container, ifname=ifname)
            wall.detach(container)
            wall.attach(container, tenant="other", block_network=True)
            return seen

        return Wrapped(beside, endpoint=endpoint)

    with open_served(wrap_beside=handed_over) as served:
        mine = served.world.wall.attach("web", tenant="mine", allow_list=[f"{PUBLIC4}/32"])
        told = served.run(lambda: served.node.policies.one(asker, mine.key))
        assert served.world.wall.endpoint("web").tenant == "other"
    assert (told.policy, told.generation) == (mine.tiers.endpoint, mine.generation)


def test_who_is_not_root_is_told_of_its_endpoint_and_not_of_the_node(served: Served, plain: Plain, web: Any) -> None:
    authority = Authority([Granted(7, parse_grant("7 check acme", "daemon.allow"))])
    asker = Asker(Peer(uid=1000, groups=frozenset({7})), authority)
    bridge = served.world.wall.settings.network.bridge
    served.world.lab.node.run(["ip", "link", "set", bridge, "mtu", "1400"])
    web.run(["ip", "link", "set", "eth0", "down"])
    told = plain.ask("GET", "/v1/endpoints/web/eth0/findings").document["findings"]
    assert any(bridge in line for line in told)
    findings = served.run(lambda: served.node.endpoints.findings(asker, EndpointKey("web")))
    assert findings and not any(bridge in line for line in findings)
    with pytest.raises(NotFound):
        served.run(lambda: served.node.endpoints.findings(asker, EndpointKey("nobody")))
    plain.ask("POST", "/v1/reconcile")
