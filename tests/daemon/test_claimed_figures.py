"""Whose the packets are of a sandbox that stood ready: nobody's until it is claimed."""

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from cellwall.adapters.node.meters import Meters
from cellwall.api import Wall
from cellwall.daemon.bounds import Bounds
from cellwall.errors import KernelError
from cellwall.lab import Host
from cellwall.model.pool import PoolSize
from daemon.scraped import of, scrape, send, traffic
from daemon.test_pool import resize
from running import wait_until
from served import Plain, Served, open_served
from world import Sandbox, write_setting

pytestmark = pytest.mark.root


@pytest.fixture
def served() -> Iterator[Served]:
    """A daemon that keeps one ready, and whose figures are never older than the question."""
    with open_served(bounds=Bounds(scrape_seconds=0.0), size=PoolSize(1)) as served:
        yield served


def ready_box(served: Served) -> Sandbox:
    """The one that stands ready, for who has got into its namespace."""
    resize(served, PoolSize(1))
    wait_until(lambda: served.node.pool.figures.ready == 1)
    (ready,) = served.world.wall._site.journal.pooled()
    return Sandbox(Host("ready", Path(ready.netns), served.world.lab._custody), ready)


def failing(meters: Meters) -> NoReturn:
    raise KernelError(errno.EIO, "read traffic")


def test_what_is_sent_before_the_claim_is_not_its_tenants(served: Served, plain: Plain) -> None:
    """As far as somebody looked in between."""
    box = ready_box(served)
    write_setting(box.host, "net/ipv6/conf/all/disable_ipv6", "1")
    send(served, box, 20)
    assert not of(scrape(plain), "cellwall_tenant_sent_packets_total", tenant="acme")
    assert plain.ask("POST", "/v1/pool/claims", {"container": "web", "tenant": "acme"}).status == 201
    assert traffic(scrape(plain), "acme") == (0, 0, 0, 0)
    send(served, box, 3)
    assert traffic(scrape(plain), "acme")[:2] == (3, 300)
    assert plain.ask("DELETE", "/v1/endpoints/web/eth0").status == 200
    assert traffic(scrape(plain), "acme")[:2] == (3, 300)


def test_one_that_is_claimed_amid_a_reading_has_nothing_of_what_was_looked_at_before(
    served: Served, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ready_box(served)
    write_setting(box.host, "net/ipv6/conf/all/disable_ipv6", "1")
    send(served, box, 20)
    send(served, box, 20, source="203.0.113.7")
    scrape(plain)
    whose, claimed = Wall.ready_links, list[bool]()

    def claimed_meanwhile(wall: Wall) -> frozenset[int]:
        if not claimed:
            claimed.append(True)
            with closing(served.connect()) as other:
                body = {"container": "web", "tenant": "acme"}
                assert other.ask("POST", "/v1/pool/claims", body).status == 201
        return whose(wall)

    monkeypatch.setattr(Wall, "ready_links", claimed_meanwhile)
    scrape(plain)
    told = scrape(plain)
    assert claimed and traffic(told, "acme")[:2] == (0, 0)
    assert of(told, "cellwall_tenant_denied_packets_total", tenant="acme") == 0


def test_what_is_sent_in_one_that_ends_unclaimed_is_nobodys(served: Served, plain: Plain) -> None:
    send(served, ready_box(served), 20)
    resize(served, PoolSize())
    wait_until(lambda: served.node.pool.figures.ready == 0)
    told = [value for (name, _), value in scrape(plain).items() if name == "cellwall_tenant_sent_packets_total"]
    assert sum(told) == 0


@pytest.mark.parametrize("traffic_is_read", [True, False])
def test_what_is_denied_of_one_before_the_claim_is_not_its_tenants(
    served: Served, plain: Plain, monkeypatch: pytest.MonkeyPatch, traffic_is_read: bool
) -> None:
    if not traffic_is_read:
        monkeypatch.setattr(Meters, "traffic", failing)
    box = ready_box(served)
    send(served, box, 20, source="203.0.113.7")
    name = "cellwall_tenant_denied_packets_total"
    assert not of(scrape(plain), name, tenant="acme")
    assert plain.ask("POST", "/v1/pool/claims", {"container": "web", "tenant": "acme"}).status == 201
    assert of(scrape(plain), name, tenant="acme") == 0
    send(served, box, 3, source="203.0.113.7")
    assert of(scrape(plain), name, tenant="acme") == 3
