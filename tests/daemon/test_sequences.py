"""Any sequence of calls leaves exactly what the answers say: no defect, no half of a batch, nothing behind a detach."""

import socket
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cellwall.lab.host import Host
from cellwall.model.pool import PoolSize
from cellwall.model.settings import Settings
from daemon.modelled import FIRST, LAST, Model, entry
from engine.test_reservations import bindable
from served import Answer, Served, open_served

pytestmark = [pytest.mark.root, pytest.mark.minutes]

containers = st.sampled_from([f"c{number}" for number in range(6)])
tenants = st.sampled_from([None, "t", "u"])
host_ports = st.integers(8000, 8005) | st.integers(FIRST, FIRST + 3)
ports = st.builds(lambda host, port: f"{host}:{port}/tcp", host_ports, st.sampled_from([80, 81]))
any_ports = st.sampled_from(["auto:80/tcp", "auto:81/tcp", "auto:80/udp"])
exposed = st.builds(
    lambda named, anywhere: [*named, *anywhere],
    st.lists(ports, max_size=2, unique_by=lambda port: port.partition(":")[0]),
    st.lists(any_ports, max_size=2),
)
WRONG: list[dict[str, Any]] = [
    {"container": "a b"},
    {"container": "c9", "netns": "/nowhere"},
    {"container": "c9", "netns": "/proc/self/ns/net"},
    {"container": "c9", "address4": "192.168.0.1"},
    {"container": "c9", "mac": "01:00:00:00:00:00"},
    {"container": "c9", "expose": ["10240:80"]},
    {"container": "c9", "expose": ["9000:80", "9000:81"]},
    {"container": "c9", "expose": ["auto:80", "10240:80"]},
    {"container": "c9", "expose": ["auto-61001:80"]},
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

WRONG_COUNTS: list[dict[str, Any]] = [{"count": 0}, {"count": 65}, {"count": 1, "seconds": 0}, {}]


class Calls(RuleBasedStateMachine):
    """The daemon beside a model of it."""

    served: Served

    def __init__(self) -> None:
        super().__init__()
        self.plain = self.served.connect()
        self.model = Model()
        self.tenants: dict[str, str] = {}
        self.own: dict[str, str] = {}

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        answer = self.plain.ask(method, path, body)
        assert answer.status < 500, answer.document
        return answer

    @rule(way=st.sampled_from(WAYS), name=containers, tenant=tenants, wanted=exposed)
    def attach(self, way: str, name: str, tenant: str | None, wanted: list[str]) -> None:
        body = {**body_of(name, wanted), "tenant": tenant}
        answer, expected = self.ask("POST", way, body), self.model.attach_statuses([body])
        assert answer.status in expected
        if answer.status < 400:
            self.attached([body], [answer.document["endpoint"]])

    @rule(
        names=st.lists(containers, min_size=1, max_size=4, unique=True),
        wanted=st.lists(exposed, min_size=4, max_size=4),
        wrong=st.none() | st.sampled_from(WRONG),
    )
    def attach_many(self, names: list[str], wanted: list[list[str]], wrong: dict[str, Any] | None) -> None:
        bodies = [body_of(name, ports) for name, ports in zip(names, wanted, strict=False)]
        answer = self.ask("POST", "/v1/endpoints/batch", {"endpoints": [*bodies, *([wrong] if wrong else [])]})
        if wrong:
            assert answer.status in (404, 409, 422)
            return
        assert answer.status in {status if status >= 400 else 200 for status in self.model.attach_statuses(bodies)}
        if answer.status == 200:
            self.attached(bodies, answer.document["endpoints"])

    def attached(self, bodies: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
        for body in bodies:
            if body["container"] in self.model.dead:
                self.own.pop(body["container"], None)
        self.model.attached(bodies, documents)

    @rule(way=st.sampled_from(WAYS), wrong=st.sampled_from(WRONG))
    def attach_wrongly(self, way: str, wrong: dict[str, Any]) -> None:
        assert self.ask("POST", way, wrong).status in (404, 422)

    @rule(name=containers)
    def detach(self, name: str) -> None:
        answer = self.ask("DELETE", f"/v1/endpoints/{name}/eth0")
        assert answer.document == {"detached": self.model.detached(name)}
        self.own.pop(name, None)

    @rule(names=st.lists(containers, max_size=4))
    def detach_many(self, names: list[str]) -> None:
        answer = self.ask("POST", "/v1/endpoints/detach", {"endpoints": [{"container": name} for name in names]})
        assert answer.document == {"detached": sum(map(self.model.detached, names))}
        self.own = {name: mode for name, mode in self.own.items() if name in self.model.endpoints}

    @rule(name=containers, port=ports | any_ports)
    def expose(self, name: str, port: str) -> None:
        answer = self.ask("POST", f"/v1/endpoints/{name}/eth0/ports", {"binding": port})
        assert answer.status == self.model.expose_status(name, port)
        if answer.status == 200:
            self.model.exposed(name, port, answer.document["endpoint"])

    @rule(name=containers, port=ports)
    def unexpose(self, name: str, port: str) -> None:
        answer = self.ask("DELETE", f"/v1/endpoints/{name}/eth0/ports?binding={port.replace('/', '%2F')}")
        assert answer.status == (200 if name in self.model.endpoints else 404)
        if answer.status == 200:
            self.model.unexposed(name, port)

    @rule(name=containers, number=st.integers(0, 2))
    def unexpose_one_that_is_published(self, name: str, number: int) -> None:
        """Which one that is no rule may draw: free ports are given by chance."""
        _, held = self.model.endpoints.get(name, ("", ()))
        for port in sorted(held)[number : number + 1]:
            self.unexpose(name, port)

    @rule(name=containers)
    def lose(self, name: str) -> None:
        """Somebody takes its sandbox away."""
        if name not in self.model.living():
            return
        netns = self.ask("GET", f"/v1/endpoints/{name}/eth0").document["endpoint"]["netns"]
        self.served.world.lab.node.run(["nsenter", f"--net={netns}", "ip", "link", "delete", "eth0"])
        self.model.dead.add(name)

    @rule()
    def reconcile(self) -> None:
        repaired = self.ask("POST", "/v1/reconcile").document["repaired"]
        assert bool(repaired) == bool(self.model.dead)
        for name in [*self.model.dead]:
            self.model.detached(name)

    @rule(name=containers, tenant=tenants, count=st.integers(1, 4))
    def reserve(self, name: str, tenant: str | None, count: int) -> None:
        answer = self.ask("PUT", f"/v1/reservations/{name}", {"count": count, "tenant": tenant})
        holder = name, tenant or ""
        assert answer.status == self.model.reserve_status(holder, count)
        if answer.status == 200:
            self.model.reserved_now(holder, count, answer.document["reservation"])

    @rule(name=containers)
    def release(self, name: str) -> None:
        answer = self.ask("DELETE", f"/v1/reservations/{name}")
        assert answer.document == {"released": self.model.released(name)}

    @rule(name=containers, wrong=st.sampled_from(WRONG_COUNTS))
    def reserve_wrongly(self, name: str, wrong: dict[str, Any]) -> None:
        assert self.ask("PUT", f"/v1/reservations/{name}", wrong).status == 422

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
        assert answer.status == (200 if name in self.model.endpoints else 404)
        if name in self.model.endpoints:
            self.own[name] = mode

    @rule(place=st.sampled_from(["policies/t", "endpoints/c0/eth0/policy"]), wrong=st.sampled_from(WRONG_POLICIES))
    def rule_wrongly(self, place: str, wrong: dict[str, Any]) -> None:
        assert self.ask("PUT", f"/v1/{place}", wrong).status in (404, 422)

    @invariant()
    def what_is_listed_is_what_was_answered(self) -> None:
        listed = {one["container"]: entry(one) for one in self.ask("GET", "/v1/endpoints").document["endpoints"]}
        answered = self.ask("GET", "/v1/reservations").document["reservations"]
        reserved = {(one["container"], one["tenant"]): frozenset(one["ports"]) for one in answered}
        self.model.noticed(listed, reserved)
        self.own = {name: mode for name, mode in self.own.items() if name in listed}
        assert (listed, reserved) == (self.model.endpoints, self.model.reserved)
        assert len(self.model.held()) == sum(map(len, reserved.values())), "a port is reserved twice"
        assert len(self.model.published()) == sum(len(held) for _, held in listed.values()), "a port is led to two"
        self.what_is_held()

    def what_is_held(self) -> None:
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        held = {port for port in range(FIRST, LAST + 1) if not all(bindable(port, kind) for kind in kinds)}
        assert held == self.model.held()

    @invariant()
    def who_is_attached_is_under_the_policies_that_were_answered(self) -> None:
        listed = self.ask("GET", "/v1/endpoints").document["endpoints"]
        known = self.ask("GET", "/v1/policies").document["policies"]
        assert {tenant: answer["policy"]["mode"] for tenant, answer in known.items()} == self.tenants
        for one in listed:
            tiers = one["policies"] or {"tenant": {"mode": "open"}, "endpoint": {"mode": "open"}}
            assert tiers["tenant"]["mode"] == self.tenants.get(one["tenant"], "open")
            assert tiers["endpoint"]["mode"] == self.own.get(one["container"], "open")

    def teardown(self) -> None:
        self.reconcile()
        status = self.ask("GET", "/v1/status").document
        assert (status["drift"], status["endpoints"]) == ([], len(self.model.endpoints))
        keys = [{"container": name} for name in self.model.endpoints]
        assert self.ask("POST", "/v1/endpoints/detach", {"endpoints": keys}).document == {"detached": len(keys)}
        for name in [*self.model.endpoints]:
            self.model.detached(name)
        for name in {name for name, _ in self.model.reserved}:
            assert self.ask("DELETE", f"/v1/reservations/{name}").document == {"released": self.model.released(name)}
        self.what_is_held()
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


def body_of(name: str, ports: list[str]) -> dict[str, Any]:
    return {"container": name, "expose": ports}


def left_on(node: Host, served: Served) -> list[str]:
    """Links and namespaces of endpoints."""
    prefix = served.world.wall.settings.network.veth_prefix
    links = [line for line in node.run(["ip", "-o", "link"]).text.splitlines() if f" {prefix}" in line]
    kept = served.world.wall.paths.run / "netns"
    return links + ([path.name for path in kept.iterdir()] if kept.exists() else [])


def run(examples: int, steps: int) -> None:
    with open_served(size=POOL, settings=Settings(reserved_ports=(FIRST, LAST))) as served:
        machine = type("Machine", (Calls,), {"served": served})
        chosen = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(machine, settings=chosen)


def test_any_sequence_leaves_what_its_answers_say() -> None:
    run(8, 25)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_long_sequences_leave_what_their_answers_say() -> None:
    run(80, 60)
