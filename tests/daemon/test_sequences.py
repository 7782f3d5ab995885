"""Any sequence of calls leaves exactly what the answers say: no defect, no half of a batch, nothing behind a detach."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cellwall.lab.host import Host
from cellwall.model.pool import PoolSize
from served import Answer, Served, open_served

pytestmark = [pytest.mark.root, pytest.mark.minutes]

containers = st.sampled_from([f"c{number}" for number in range(6)])
tenants = st.sampled_from([None, "t", "u"])
host_ports = st.integers(8000, 8005)
ports = st.builds(lambda host, port: f"{host}:{port}/tcp", host_ports, st.sampled_from([80, 81]))
WRONG: list[dict[str, Any]] = [
    {"container": "a b"},
    {"container": "c9", "netns": "/nowhere"},
    {"container": "c9", "netns": "/proc/self/ns/net"},
    {"container": "c9", "address4": "192.168.0.1"},
    {"container": "c9", "mac": "01:00:00:00:00:00"},
    {"container": "c9", "expose": ["10240:80"]},
    {"container": "c9", "expose": ["9000:80", "9000:81"]},
    {"container": "c9", "interface": "lo"},
    {"container": "c9", "unheard": 1},
]

WAYS = ("/v1/endpoints", "/v1/pool/claims")
POOL = PoolSize(2, 2)
POLICIES: dict[str, dict[str, Any]] = {
    "open": {},
    "block": {"block_network": True},
    "allow": {"allow_list": ["1.1.1.0/24"], "inbound_cidr_allowlist": ["203.0.113.0/24"]},
}
"""By the mode that they have."""
modes = st.sampled_from(sorted(POLICIES))
WRONG_POLICIES: list[dict[str, Any]] = [
    {"mode": "x"},
    {"allow_list": ["10.0.0.0/8"]},
    {"block_network": True, "rules": []},
]

Entry = tuple[str, frozenset[str]]
"""What the model knows of an endpoint: its tenant and its ports."""


class Calls(RuleBasedStateMachine):
    """The daemon beside a dictionary."""

    served: Served

    def __init__(self) -> None:
        super().__init__()
        self.plain = self.served.connect()
        self.model: dict[str, Entry] = {}
        self.tenants: dict[str, str] = {}
        self.own: dict[str, str] = {}

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        answer = self.plain.ask(method, path, body)
        assert answer.status < 500, answer.document
        return answer

    def expected(self, model: dict[str, Entry], body: dict[str, Any]) -> int:
        """The status of one attach, and the model after it."""
        name, tenant, wanted = body["container"], body.get("tenant"), frozenset(body.get("expose", ()))
        if name in model:
            same = tenant in (None, model[name][0]) and (not wanted or wanted == model[name][1])
            return 200 if same else 409
        taken = {port.partition(":")[0] for _, held in model.values() for port in held}
        if taken & {port.partition(":")[0] for port in wanted}:
            return 409
        model[name] = (tenant or "", wanted)
        return 201

    @rule(
        way=st.sampled_from(WAYS),
        name=containers,
        tenant=tenants,
        wanted=st.lists(ports, max_size=2, unique_by=lambda port: port[:4]),
    )
    def attach(self, way: str, name: str, tenant: str | None, wanted: list[str]) -> None:
        body = {"container": name, "tenant": tenant, "expose": wanted}
        assert self.ask("POST", way, body).status == self.expected(self.model, body)

    @rule(
        names=st.lists(containers, min_size=1, max_size=4, unique=True),
        wanted=ports,
        wrong=st.none() | st.sampled_from(WRONG),
    )
    def attach_many(self, names: list[str], wanted: str, wrong: dict[str, Any] | None) -> None:
        bodies: list[dict[str, Any]] = [{"container": name} for name in names]
        bodies[-1]["expose"] = [wanted]
        after = dict(self.model)
        statuses = {self.expected(after, body) for body in bodies}
        answer = self.ask("POST", "/v1/endpoints/batch", {"endpoints": [*bodies, *([wrong] if wrong else [])]})
        if wrong:
            assert answer.status in (404, 409, 422)
        elif 409 in statuses:
            assert answer.status == 409
        else:
            assert answer.status == 200
            self.model = after

    @rule(way=st.sampled_from(WAYS), wrong=st.sampled_from(WRONG))
    def attach_wrongly(self, way: str, wrong: dict[str, Any]) -> None:
        assert self.ask("POST", way, wrong).status in (404, 422)

    @rule(name=containers)
    def detach(self, name: str) -> None:
        answer = self.ask("DELETE", f"/v1/endpoints/{name}/eth0")
        assert answer.document == {"detached": self.model.pop(name, None) is not None}
        self.own.pop(name, None)

    @rule(names=st.lists(containers, max_size=4))
    def detach_many(self, names: list[str]) -> None:
        answer = self.ask("POST", "/v1/endpoints/detach", {"endpoints": [{"container": name} for name in names]})
        gone = [self.model.pop(name) for name in set(names) if name in self.model]
        assert answer.document == {"detached": len(gone)}
        self.own = {name: mode for name, mode in self.own.items() if name in self.model}

    @rule(name=containers, port=ports)
    def expose(self, name: str, port: str) -> None:
        answer = self.ask("POST", f"/v1/endpoints/{name}/eth0/ports", {"binding": port})
        if name not in self.model:
            assert answer.status == 404
            return
        tenant, held = self.model[name]
        taken = {one.partition(":")[0] for _, theirs in self.model.values() for one in theirs}
        if port not in held and port.partition(":")[0] in taken:
            assert answer.status == 409
        else:
            assert answer.status == 200
            self.model[name] = (tenant, held | {port})

    @rule(name=containers, port=ports)
    def unexpose(self, name: str, port: str) -> None:
        answer = self.ask("DELETE", f"/v1/endpoints/{name}/eth0/ports?binding={port.replace('/', '%2F')}")
        assert answer.status == (200 if name in self.model else 404)
        if name in self.model:
            tenant, held = self.model[name]
            self.model[name] = (tenant, held - {port})

    @rule(tenant=st.sampled_from("tu"), mode=modes, method=st.sampled_from(["PUT", "PATCH"]))
    def rule_tenant(self, tenant: str, mode: str, method: str) -> None:
        body = POLICIES[mode] if mode != "open" or method == "PUT" else {"mode": None, "rules": None}
        assert self.ask(method, f"/v1/policies/{tenant}", body).document["policy"]["mode"] == mode
        self.tenants[tenant] = mode

    @rule(tenant=st.sampled_from("tu"))
    def unrule_tenant(self, tenant: str) -> None:
        answer = self.ask("DELETE", f"/v1/policies/{tenant}")
        assert answer.document == {"removed": self.tenants.pop(tenant, None) is not None}

    @rule(name=containers, mode=modes)
    def rule_endpoint(self, name: str, mode: str) -> None:
        answer = self.ask("PUT", f"/v1/endpoints/{name}/eth0/policy", POLICIES[mode])
        assert answer.status == (200 if name in self.model else 404)
        if name in self.model:
            self.own[name] = mode

    @rule(place=st.sampled_from(["policies/t", "endpoints/c0/eth0/policy"]), wrong=st.sampled_from(WRONG_POLICIES))
    def rule_wrongly(self, place: str, wrong: dict[str, Any]) -> None:
        assert self.ask("PUT", f"/v1/{place}", wrong).status in (404, 422)

    @invariant()
    def who_is_attached_is_under_the_policies_that_were_answered(self) -> None:
        listed = self.ask("GET", "/v1/endpoints").document["endpoints"]
        known = self.ask("GET", "/v1/policies").document["policies"]
        assert {tenant: answer["policy"]["mode"] for tenant, answer in known.items()} == self.tenants
        for one in listed:
            tiers = one["policies"] or {"tenant": {"mode": "open"}, "endpoint": {"mode": "open"}}
            assert tiers["tenant"]["mode"] == self.tenants.get(one["tenant"], "open")
            assert tiers["endpoint"]["mode"] == self.own.get(one["container"], "open")

    @invariant()
    def what_is_listed_is_what_was_answered(self) -> None:
        listed = self.ask("GET", "/v1/endpoints").document["endpoints"]
        assert {one["container"]: entry(one) for one in listed} == self.model

    def teardown(self) -> None:
        status = self.ask("GET", "/v1/status").document
        assert (status["drift"], status["endpoints"]) == ([], len(self.model))
        keys = [{"container": name} for name in self.model]
        assert self.ask("POST", "/v1/endpoints/detach", {"endpoints": keys}).document == {"detached": len(keys)}
        for tenant in self.tenants:
            assert self.ask("DELETE", f"/v1/policies/{tenant}").document == {"removed": True}
        assert self.ask("POST", "/v1/reconcile").document == {"repaired": []}
        self.resize(PoolSize())
        while self.ask("GET", "/v1/status").document["ready"]:
            time.sleep(0.01)
        assert self.ask("POST", "/v1/reconcile").document == {"repaired": []}
        self.plain.close()
        assert left_on(self.served.world.lab.node, self.served) == []
        self.resize(POOL)

    def resize(self, size: PoolSize) -> None:
        async def act() -> None:
            self.served.node.resize_pool(size)

        self.served.run(act)


def entry(document: dict[str, Any]) -> Entry:
    exposed = {f"{one['host_port']}:{one['port']}/{one['protocol']}" for one in document["exposed"]}
    return document["tenant"], frozenset(exposed)


def left_on(node: Host, served: Served) -> list[str]:
    """Links and namespaces of endpoints."""
    prefix = served.world.wall.settings.network.veth_prefix
    links = [line for line in node.run(["ip", "-o", "link"]).text.splitlines() if f" {prefix}" in line]
    kept = served.world.wall.paths.run / "netns"
    return links + ([path.name for path in kept.iterdir()] if kept.exists() else [])


def run(examples: int, steps: int) -> None:
    with open_served(size=POOL) as served:
        machine = type("Machine", (Calls,), {"served": served})
        chosen = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(machine, settings=chosen)


def test_any_sequence_leaves_what_its_answers_say() -> None:
    run(6, 20)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_long_sequences_leave_what_their_answers_say() -> None:
    run(80, 60)
