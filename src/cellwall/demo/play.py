"""The scenes in their order, each told by what really happened."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv6Address
from typing import TypeVar

from cellwall.api import Endpoint, Wall
from cellwall.demo.attempts import ATTEMPTS
from cellwall.demo.servers import fetch, resolve
from cellwall.demo.story import Story
from cellwall.demo.town import (
    DATABASE_PORT,
    PUBLISHED_PORT,
    SHOP,
    SHOP_PORT,
    WELCOME,
    Cast,
    Seat,
    Town,
    open_town,
)
from cellwall.demo.unwalled import seat_without_wall
from cellwall.errors import Unsupported
from cellwall.lab import Host, Lab
from cellwall.lab.addresses import LAN4, NODE4, NODE6, PUBLIC6, RESOLVERS4
from cellwall.model.settings import Settings

T = TypeVar("T")

_NAME = "shop.test"


def play(lab: Lab, story: Story, *, control: bool) -> None:
    """Tell everything, on a node of `lab`. `control`: also without the wall."""
    settings = Settings()
    with open_town(lab) as town, lab.node.enter():
        before = _traces(lab.node)
        with Wall.open(root=lab.root, settings=settings) as wall:
            _build(story, wall)
            cast = _move_in(story, wall, town)
            _work(story, town)
            _attack(story, cast)
            _move_out(story, wall, lab.node, before)
        if control:
            seat_without_wall(cast, settings.network)
            _attack_without_wall(story, cast)


def _build(story: Story, wall: Wall) -> None:
    story.open("A node gets its wall", "A Linux host with an uplink, a second interface and another bridge.")
    report, took = _timed(wall.up)
    resolvers = ", ".join(str(address) for address in report.dns)
    story.tell(f"rules, bridge and kernel settings for uplink {report.uplink}", "works", took)
    story.tell("resolvers that sandboxes may ask", "works", resolvers, as_told=bool(report.dns))


def _move_in(story: Story, wall: Wall, town: Town) -> Cast:
    story.open("Two tenants move in", "Each is a network namespace with one interface, on one bridge with the other.")
    web, took = _timed(
        lambda: wall.attach("web", netns=town.acme.netns, tenant="acme", expose=[f"{PUBLISHED_PORT}:{SHOP_PORT}"])
    )
    story.tell(f"acme's web server at {web.address4} and {web.address6}", "works", took)
    story.tell(f"  port {PUBLISHED_PORT} of the node leads to it", "works", str(web.bindings[0]))
    db, took = _timed(lambda: wall.attach("db", netns=town.umbrella.netns, tenant="umbrella"))
    story.tell(f"umbrella's database at {db.address4}, port {DATABASE_PORT}, published nowhere", "works", took)
    network = wall.settings.network
    return Cast(town, _seat(town.acme, web), _seat(town.umbrella, db), network.gateway4, network.bridge_mac)


def _seat(host: Host, endpoint: Endpoint) -> Seat:
    return Seat(host, endpoint.address4, _required6(endpoint), endpoint.mac)


def _required6(endpoint: Endpoint) -> IPv6Address:
    if endpoint.address6 is None:
        raise Unsupported("the demo tells both families, and this kernel has no IPv6 that can be filtered")
    return endpoint.address6


def _work(story: Story, town: Town) -> None:
    story.open("They work", "Egress in both families, names, and a published port.")
    address = resolve(town.acme, RESOLVERS4[0], _NAME)
    story.tell(f"acme resolves {_NAME} at {RESOLVERS4[0]}", "works", address)
    _read(story, "acme", town.acme, f"http://{_NAME}/", (address, 80), WELCOME)
    _read(story, "umbrella", town.umbrella, f"http://[{PUBLIC6[2]}]/", (PUBLIC6[2], 80), WELCOME)
    for who, client, address in (
        (f"a LAN client ({LAN4})", town.lab.lan, NODE4),
        ("an Internet client", town.lab.internet, NODE6),
        ("the node itself", town.lab.node, NODE4),
    ):
        shown = f"[{address}]" if ":" in address else address
        _read(story, who, client, f"http://{shown}:{PUBLISHED_PORT}/", (address, PUBLISHED_PORT), SHOP)


def _read(story: Story, who: str, client: Host, url: str, target: tuple[str, int], expected: str) -> None:
    page = fetch(client, *target)
    story.tell(f"{who} reads {url}", "works", page.text or page.failure, as_told=page.text == expected)


def _attack(story: Story, cast: Cast) -> None:
    story.open("acme turns hostile", "It is root in its container and can send any frame. What its victims saw:")
    for attempt in ATTEMPTS:
        outcome = attempt.run(cast)
        story.tell(attempt.title, "stopped", outcome.happened, as_told=not outcome.through)


def _move_out(story: Story, wall: Wall, node: Host, before: str) -> None:
    story.open("They move out")
    for name in ("web", "db"):
        _, took = _timed(partial(wall.detach, name))
        story.tell(f"{name} is detached", "works", took)
    wall.uninstall()
    same = _traces(node) == before
    happened = "compared" if same else "they differ"
    story.tell("the node's rules, links, addresses and routes are as before", "works", happened, as_told=same)


def _attack_without_wall(story: Story, cast: Cast) -> None:
    story.open("The same attempts without the wall", "A plain bridge with masquerading: each must get through.")
    for attempt in ATTEMPTS:
        outcome = attempt.run(cast)
        story.tell(attempt.title, "gets through", outcome.happened, as_told=outcome.through)


def _traces(node: Host) -> str:
    """What anybody could have left behind on the node."""
    shown: Iterable[list[str]] = (["nft", "list", "ruleset"], *(["ip", "-o", *what] for what in _SHOWN))
    return "\n".join(node.run(argv).text for argv in shown)


_SHOWN = (["link"], ["-4", "address"], ["-4", "route"], ["-6", "route"], ["rule"])


def _timed(act: Callable[[], T]) -> tuple[T, str]:
    began = time.perf_counter()
    result = act()
    return result, f"{(time.perf_counter() - began) * 1000:.1f} ms"
