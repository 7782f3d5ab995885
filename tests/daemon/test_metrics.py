"""What a platform watches: figures of the kernel as they are, of a bounded number of tenants, for who may know."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cellwall.daemon.authority import Authority, Granted
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.metrics.catalogue import METRICS
from cellwall.lab import Host, connect
from cellwall.model.grants import parse_grant
from daemon.scraped import detach, of, quiet, scrape, send, traffic
from daemon.test_bounds import connected_as, rest
from served import Plain, Served, open_served
from world import PUBLIC4, PUBLIC6, Sandbox, in_iptables

pytestmark = pytest.mark.root

GROUP = 4711


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A daemon whose figures are never older than the question; three tenants are told apart."""
    grants = [
        Granted(GROUP, parse_grant("watchers metrics *", "daemon.allow")),
        Granted(GROUP + 2, parse_grant("own list acme", "daemon.allow")),
    ]
    bounds = Bounds(scrape_seconds=0.0)
    with (
        open_served(bounds=bounds, authority=Authority(grants), most_tenants=3) as daemon,
        daemon.world.lab.internet.serve(udp=[53]),
    ):
        yield daemon


def test_what_is_exposed_is_in_the_catalogue_in_both_formats(served: Served, plain: Plain) -> None:
    known = {metric.name: metric for metric in METRICS}
    kinds = {"info": "gauge"}
    for family in parse_text(plain.ask("GET", "/metrics").body.decode()):
        name = family.name.removesuffix("_info")
        if name.startswith("cellwall_"):
            metric = known[name]
            assert (family.type, family.documentation) == (kinds.get(metric.kind, metric.kind), metric.about)
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels <= set(metric.labels)
    answer = plain.ask("GET", "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    exposed = {family.name for family in parse_openmetrics(answer.body.decode())}
    assert {name for name in exposed if name.startswith("cellwall_")} == set(known)


def test_traffic_is_what_was_sent_and_received_to_the_byte(served: Served, plain: Plain) -> None:
    box = quiet(served, plain, "acme")
    before = traffic(scrape(plain), "acme")
    send(served, box, 100, source="1.2.3.4")
    answer = connect(box.host, PUBLIC4, 53, udp=True, payload=b"y" * 30)
    after = traffic(scrape(plain), "acme")
    gained = tuple(now - then for now, then in zip(after, before, strict=True))
    assert gained == (101, 100 * 100 + 14 + 28 + 30, 1, 14 + 28 + len(answer.data))
    detach(plain, box)


def test_what_a_sandbox_sent_last_is_counted_although_nobody_looked(served: Served, plain: Plain) -> None:
    before = traffic(scrape(plain), "acme")
    for _ in range(3):  # of each nothing is ever read but at its end
        box = quiet(served, plain, "acme")
        send(served, box, 10)
        detach(plain, box)
    owned = {"container": "kept", "tenant": "acme"}
    assert plain.ask("POST", "/v1/endpoints", owned).status == 201
    after = traffic(scrape(plain), "acme")
    assert after[0] - before[0] >= 30 and after[1] - before[1] >= 3000
    assert plain.ask("DELETE", "/v1/endpoints/kept/eth0").status == 200
    assert traffic(scrape(plain), "acme") >= after


def test_totals_are_exact_while_containers_come_and_go_and_many_look(served: Served, plain: Plain) -> None:
    before, over, passed = traffic(scrape(plain), "acme"), Event(), 0

    def look() -> None:
        with served.connect() as own:
            last = 0.0
            while not over.is_set():
                now = traffic(scrape(own), "acme")[0]
                assert now >= last
                last = now

    with ThreadPoolExecutor(2) as others:
        looking = [others.submit(look) for _ in range(2)]
        try:
            for _ in range(15):
                boxes = [quiet(served, plain, "acme") for _ in range(2)]
                for box in boxes:
                    send(served, box, 10, source="1.2.3.4")
                told = plain.ask("GET", "/v1/traffic").document["endpoints"]
                passed += sum(one["sent_packets"] for one in told if one["container"] in [box.name for box in boxes])
                assert plain.ask("POST", "/v1/endpoints/detach", body_of([box.name for box in boxes])).status == 200
        finally:
            over.set()
        for each in looking:
            each.result()
    after = traffic(scrape(plain), "acme")
    assert after[0] - before[0] == passed >= 300


def test_of_hundreds_that_are_closed_at_once_each_is_counted(served: Served, plain: Plain) -> None:
    names = [f"many-{number}" for number in range(300)]
    body = {"endpoints": [{"container": name, "tenant": "acme"} for name in names]}
    before = traffic(scrape(plain), "acme")
    made = plain.ask("POST", "/v1/endpoints/batch", body).document["endpoints"]
    busy = [Host("busy", Path(made[number]["netns"]), served.world.lab._custody) for number in (0, 150, 299)]
    for host in busy:
        host.inject("eth0", [b"\x02\x00\x00\x00\x00\x01" + b"\x02" * 6 + b"\x88\xb5" + bytes(986)] * 100)
    assert plain.ask("POST", "/v1/endpoints/detach", body_of(names)).document == {"detached": 300}
    after = traffic(scrape(plain), "acme")
    assert 300 <= after[0] - before[0] < 300 + 4 * len(names), "but for what IPv6 says of itself"
    assert after[1] - before[1] >= 300 * 1000


def body_of(names: list[str]) -> dict[str, object]:
    return {"endpoints": [{"container": name} for name in names]}


def test_tenants_that_are_too_many_are_one(served: Served, plain: Plain) -> None:
    boxes: dict[str, Sandbox] = {}
    for tenant in ("acme", "b", "c", "d", "e"):
        boxes[tenant] = quiet(served, plain, tenant)
        before = scrape(plain)
    for box in boxes.values():
        send(served, box, 7)
    after = scrape(plain)
    told = {dict(labels)["tenant"] for name, labels in after if name == "cellwall_tenant_sent_packets_total"}
    assert told == {"acme", "b", "c", "_others"}
    assert traffic(after, "_others")[0] - traffic(before, "_others")[0] == 14
    assert of(after, "cellwall_tenant_endpoints", tenant="_others") == 2
    assert of(after, "cellwall_tenants") == 5
    for box in boxes.values():
        detach(plain, box)
    assert traffic(scrape(plain), "_others") == traffic(after, "_others")


def test_a_container_of_no_tenant_is_nobodys(served: Served, plain: Plain) -> None:
    assert plain.ask("POST", "/v1/endpoints", {"container": "free"}).status == 201
    assert of(scrape(plain), "cellwall_tenant_endpoints", tenant="_none") == 1
    assert plain.ask("DELETE", "/v1/endpoints/free/eth0").status == 200


def test_calls_are_counted_by_what_became_of_them(served: Served, plain: Plain) -> None:
    before = scrape(plain)
    assert plain.ask("GET", "/v1/endpoints/nobody/eth0").status == 404
    assert plain.ask("POST", "/v1/endpoints", {"container": "x y"}).status == 422
    assert plain.ask("POST", "/v1/endpoints", {"container": "once", "expose": ["8080:80"]}).status == 201
    after = scrape(plain)

    def gained(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    assert gained("cellwall_calls_total", call="show", outcome="not-found") == 1
    assert gained("cellwall_calls_total", call="attach", outcome="invalid") == 1
    assert gained("cellwall_calls_total", call="attach", outcome="ok") == 1
    assert gained("cellwall_call_seconds_count", call="attach") == 2
    while not gained("cellwall_write_seconds_count"):  # which is counted behind the answer
        after = scrape(plain)
    assert gained("cellwall_write_seconds_count") == gained("cellwall_write_wait_seconds_count") == 1
    assert gained("cellwall_endpoints") == gained("cellwall_exposures") == 1
    assert gained("cellwall_addresses", state="leased") == 1 == -gained("cellwall_addresses", state="free")
    assert plain.ask("DELETE", "/v1/endpoints/once/eth0").status == 200
    assert of(scrape(plain), "cellwall_addresses", state="draining") >= 1


def test_claims_are_counted_by_whether_one_stood_ready(served: Served, plain: Plain) -> None:
    before = scrape(plain)
    assert plain.ask("POST", "/v1/pool/claims", {"container": "claimed", "tenant": "acme"}).status == 201
    after = scrape(plain)
    missed = {"outcome": "missed"}
    name = "cellwall_pool_claims_total"
    assert of(after, name, **missed) - of(before, name, **missed) == 1
    assert of(after, name, outcome="found") == of(after, "cellwall_pool_ready") == 0
    assert of(after, "cellwall_call_seconds_count", call="claim") == 1
    assert plain.ask("DELETE", "/v1/endpoints/claimed/eth0").status == 200


def test_connection_tracking_is_told(served: Served, plain: Plain) -> None:
    box = quiet(served, plain, "acme")
    before = scrape(plain)
    assert connect(box.host, PUBLIC4, 53, udp=True)
    after = scrape(plain)
    entries = of(after, "cellwall_conntrack_entries")
    assert entries == of(before, "cellwall_conntrack_entries") + 1
    assert entries < of(after, "cellwall_conntrack_entries_limit")
    detach(plain, box)


def test_a_scrape_waits_for_no_write(served: Served, plain: Plain) -> None:
    begun, over = Event(), Event()

    def write() -> None:
        begun.set()
        assert over.wait(30)

    async def do() -> None:
        await served.node.writer.do(write)

    thread = Thread(target=lambda: served.run(do))
    thread.start()
    assert begun.wait(30)
    try:
        assert of(scrape(plain), "cellwall_writer_busy_seconds") > 0
    finally:
        over.set()
        thread.join()


def test_root_and_who_is_granted_it_may_know_and_nobody_else(served: Served) -> None:
    os.chmod(served.path, 0o666)
    os.chmod(served.world.lab.root, 0o755)
    for uid, status in ((GROUP, b"200 OK"), (GROUP + 1, b"403 Forbidden")):
        with connected_as(served.path, uid) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert rest(sock).startswith(b"HTTP/1.1 " + status)


def test_a_member_is_told_the_traffic_of_its_own_tenants(served: Served, plain: Plain) -> None:
    boxes = [quiet(served, plain, tenant) for tenant in ("acme", "rival")]
    os.chmod(served.path, 0o666)
    os.chmod(served.world.lab.root, 0o755)
    told = {}
    for uid in (GROUP + 1, GROUP + 2):
        with connected_as(served.path, uid) as sock:
            sock.sendall(b"GET /v1/traffic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            told[uid] = rest(sock)
    assert told[GROUP + 1].startswith(b"HTTP/1.1 403")
    body = json.loads(told[GROUP + 2].partition(b"\r\n\r\n")[2])
    assert [one["container"] for one in body["endpoints"]] == [boxes[0].name]
    send(served, boxes[0], 12, source="1.2.3.4")
    now = {one["container"]: one for one in plain.ask("GET", "/v1/traffic").document["endpoints"]}
    (then,) = body["endpoints"]
    assert now[boxes[0].name]["sent_packets"] - then["sent_packets"] == 12
    assert now[boxes[0].name]["sent_bytes"] - then["sent_bytes"] == 1200
    assert in_iptables() or now[boxes[0].name]["denied"] - then["denied"] == 12
    assert {"rival", "acme"} <= {one["tenant"] for one in now.values()}
    for box in boxes:
        detach(plain, box)


def test_who_asks_at_once_is_told_the_same_and_costs_one_look() -> None:
    with open_served(bounds=Bounds(scrape_seconds=60.0), up=False) as daemon, daemon.connect() as plain:
        first = plain.ask("GET", "/metrics").body
        assert plain.ask("GET", "/v1/version").status == 200
        assert plain.ask("GET", "/metrics").body == first
        openmetrics = plain.ask("GET", "/metrics", Accept="application/openmetrics-text").body
        assert b'cellwall_calls_total{call="version"' in openmetrics, "which is another text"


def test_calls_of_the_plugin_are_told_apart_and_whatever_else_is_asked_is_one() -> None:
    bounds = Bounds(scrape_seconds=0.0)
    with open_served(bounds=bounds, up=False, cni=lambda *_: (422, b"{}", False)) as daemon, daemon.connect() as plain:
        for query in ("CNI_COMMAND=ADD", "CNI_COMMAND=DEL", "CNI_COMMAND=x%22%0A", ""):
            assert plain.ask("POST", f"/v1/cni?{query}", b"{}").status == 422
        for path in ("/nothing", "/v1/nothing", "/%22%7D"):
            assert plain.ask("GET", path).status == 404
        series = scrape(plain)
        name = "cellwall_calls_total"
        told = {
            (dict(labels)["call"], dict(labels)["outcome"]): count
            for (found, labels), count in series.items()
            if found == name
        }
        assert told == {
            ("cni-add", "failed"): 1,
            ("cni-del", "failed"): 1,
            ("cni", "failed"): 2,
            ("other", "failed"): 3,
        }


def test_a_node_that_is_down_says_so() -> None:
    with open_served(bounds=Bounds(scrape_seconds=0.0), up=False) as daemon, daemon.connect() as plain:
        series = scrape(plain)
        assert of(series, "cellwall_up") == 0
        assert ("cellwall_up", ()) in series
        assert of(series, "cellwall_addresses", state="free") == 4093


def test_ipv6_is_counted_as_well(served: Served, plain: Plain) -> None:
    box = served.world.attach(tenant="acme")
    before = traffic(scrape(plain), "acme")
    answer = connect(box.host, PUBLIC6, 53, udp=True)
    after = traffic(scrape(plain), "acme")
    assert (after[2] - before[2], after[3] - before[3]) == (1, 14 + 48 + len(answer.data))
    detach(plain, box)
