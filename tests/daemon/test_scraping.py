"""Metrics of a daemon that runs as it does: over TCP, and on over its death."""

import http.client
import signal
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from cellwall.lab import Lab
from cellwall.lab.host import Host
from daemon.served import Daemon, UnixConnection, served
from world import write_setting

pytestmark = pytest.mark.root

ADDRESS, PORT = "127.0.0.1", 9469
CONFIGURED = f'[daemon]\nmetrics = "{ADDRESS}:{PORT}"\nmetrics_tenants = 2'
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.node.ip(["link set lo up"])
        with lab.node.enter():
            yield lab


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Iterator[Daemon]:
    with served(lab, configuration=CONFIGURED) as daemon:
        assert daemon.ask("POST", "/v1/up").status == 200
        yield daemon


def asked(path: str, method: str = "GET", *, address: str = ADDRESS) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(address, PORT, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read().decode()
    finally:
        connection.close()


def scrape(daemon: Daemon) -> Series:
    """At the unix socket, as soon as it is another text than was told last."""
    connection = UnixConnection(daemon.paths.socket)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in parse(text) for s in family.samples}


def traffic(series: Series, tenant: str, what: str = "sent_packets") -> float:
    return series.get((f"cellwall_tenant_{what}_total", (("tenant", tenant),)), 0.0)


def attach(daemon: Daemon, lab: Lab, name: str, tenant: str) -> Host:
    """A sandbox that sends nothing of itself."""
    box = lab.sandbox(name)
    body = {"container": name, "netns": str(box.netns), "tenant": tenant}
    assert daemon.ask("POST", "/v1/endpoints", body).status == 201
    write_setting(box, "net/ipv6/conf/all/disable_ipv6", "1")
    return box


def send(box: Host, count: int) -> None:
    """So many frames of 100 bytes that nobody understands."""
    box.inject("eth0", [b"\x02\x00\x00\x00\x00\x01" + b"\x02" * 6 + b"\x88\xb5" + bytes(86)] * count)


def test_the_metrics_and_nothing_else_are_told_over_tcp(daemon: Daemon) -> None:
    status, media, text = asked("/metrics")
    assert (status, media) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "\ncellwall_up 1.0\n" in text
    for path in ("/", "/v1/version", "/v1/endpoints", "/openapi.json", "/metrics/", "//metrics", "/v1/traffic"):
        status, media, text = asked(path)
        assert (status, media) == (404, "application/problem+json"), path
        assert "cellwall_" not in text
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert asked("/metrics", method)[0] == 405
    assert asked("/metrics", "HEAD")[0::2] == (200, "")


def test_many_scrapes_at_once_are_answered_and_who_is_too_many_is_told(daemon: Daemon) -> None:
    held = [socket.create_connection((ADDRESS, PORT), timeout=30) for _ in range(64)]
    try:
        for sock in held:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in held:
            assert sock.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection((ADDRESS, PORT), timeout=30) as one_more:
            assert one_more.recv(12) == b"HTTP/1.1 503"
        assert daemon.ask("GET", "/v1/version").status == 200
    finally:
        for sock in held:
            sock.close()


def test_a_daemon_serves_whose_address_is_taken_and_says_that_it_has_no_metrics_there(lab: Lab) -> None:
    with Lab() as other, other.node.enter():
        other.node.ip(["link set lo up"])
        with socket.create_server((ADDRESS, PORT)), served(other, configuration=CONFIGURED) as daemon:
            assert daemon.ask("GET", "/v1/version").status == 200
            assert "somebody else listens there" in daemon.logged("daemon.metrics")


def test_an_address_that_the_node_has_not_got_yet_is_no_obstacle(lab: Lab) -> None:
    with Lab() as other, other.node.enter():
        other.node.ip(["link set lo up"])
        configured = f'[daemon]\nmetrics = "open 203.0.113.77:{PORT}"'
        with served(other, configuration=configured) as daemon:
            other.node.ip(["address add 203.0.113.77/32 dev lo"])
            assert asked("/metrics", address="203.0.113.77")[0] == 200
            assert daemon.ask("POST", "/v1/up").status == 200
            box = other.sandbox("curious")
            body = {"container": "curious", "netns": str(box.netns)}
            assert daemon.ask("POST", "/v1/endpoints", body).status == 201
            with box.socket(socket.AF_INET, socket.SOCK_STREAM) as sock, pytest.raises(OSError):
                sock.settimeout(0.5)
                sock.connect(("203.0.113.77", PORT))


def test_totals_go_on_over_a_kill_and_count_what_passed_meanwhile_once(daemon: Daemon, lab: Lab) -> None:
    one, gone = attach(daemon, lab, "one", "acme"), attach(daemon, lab, "gone", "acme")
    send(one, 10)
    send(gone, 20)
    assert daemon.ask("DELETE", "/v1/endpoints/gone/eth0").status == 200
    before = scrape(daemon)
    while traffic(before, "acme") < 30:
        before = scrape(daemon)
    daemon.kill()
    send(one, 5)
    daemon.start()
    after = scrape(daemon)
    assert traffic(after, "acme") - traffic(before, "acme") == 5
    assert traffic(after, "acme", "sent_bytes") - traffic(before, "acme", "sent_bytes") == 500
    assert daemon.stop(signal.SIGTERM) == 0
    daemon.start()
    assert traffic(scrape(daemon), "acme") == traffic(after, "acme")
    assert daemon.ask("DELETE", "/v1/endpoints/one/eth0").status == 200


def test_what_the_watch_repairs_is_counted(daemon: Daemon, lab: Lab) -> None:
    before = scrape(daemon)
    lab.node.ip(["neighbour flush nud permanent dev b9_br0", "link set b9_br0 down"])
    daemon.logged("repaired in")
    after = scrape(daemon)
    while after.get(("cellwall_drift_repairs_total", ())) == before.get(("cellwall_drift_repairs_total", ())):
        after = scrape(daemon)
    by = ("cellwall_drift_repaired_total", (("by", "watch"),))
    assert after[by] > before[by]
    assert after["cellwall_watch_looks_total", ()] > before["cellwall_watch_looks_total", ()]
