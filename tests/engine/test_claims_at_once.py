"""A claim that is carried out at once is on record before it is done: whoever writes next finishes what a dead process
left of one, and takes nothing back."""

from collections.abc import Iterator
from threading import Thread

import msgspec
import pytest

from cellwall.adapters.record.turns import FairMutex
from cellwall.api import AttachRequest, Wall
from cellwall.model.endpoint import Endpoint, EndpointKey
from engine.pooled import is_let_in, two_ready
from engine.steps import assert_converged
from world import World, Wrapped, about_nftables, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def pooled(node: World) -> Iterator[Wall]:
    with two_ready(node) as wall:
        yield wall


@pytest.fixture
def given(pooled: Wall) -> Endpoint:
    """What a process died of giving: on record as claimed, and nothing more was done."""
    journal = pooled._site.journal
    ready = journal.pooled()[0]
    given = msgspec.structs.replace(ready, key=EndpointKey("web"), tenant="acme", tenant_number=77)
    with journal.transaction():
        journal.rename_endpoint(ready.key, given, "claiming")
    return given


def test_whoever_writes_next_finishes_what_was_left(pooled: Wall, given: Endpoint) -> None:
    assert not is_let_in(pooled, given)
    pooled.detach("somebody-else")
    assert is_let_in(pooled, given)
    assert pooled.endpoints() == (given,) and not pooled._site.journal.interrupted()
    assert_converged(pooled)


def test_what_was_left_is_not_finished_before_a_wall_stands(pooled: Wall, given: Endpoint, node: World) -> None:
    node.lab.node.run(["nft", "flush", "ruleset"])
    pooled.detach("somebody-else")
    assert pooled.endpoints() == (given,) and not is_let_in(pooled, given)
    pooled.reconcile()
    (web,) = pooled.endpoints()
    assert web.host_link == given.host_link and is_let_in(pooled, web)
    assert not pooled._site.journal.interrupted()
    assert pooled.claim("web", tenant="acme") == web
    assert_converged(pooled)


def test_who_asks_again_where_no_wall_stands_is_let_in_behind_one(pooled: Wall, given: Endpoint, node: World) -> None:
    node.lab.node.run(["nft", "flush", "ruleset"])
    assert pooled.claim("web", tenant="acme").netns == given.netns
    assert is_let_in(pooled, given) and pooled._site.backend.stands()
    assert_converged(pooled)


def test_what_was_left_of_a_sandbox_that_is_gone_keeps_nobody_from_writing(
    pooled: Wall, given: Endpoint, node: World
) -> None:
    node.lab.node.run(["ip", "link", "delete", given.host_link])
    other = pooled.claim("other")
    assert is_let_in(pooled, other) and not pooled._site.journal.interrupted()
    assert pooled.detach("web")
    assert_converged(pooled)


def test_who_claims_at_once_has_the_turn_no_longer_than_that(pooled: Wall) -> None:
    """Another thread's operation behind it, found or not."""
    pooled._caller.take_turns_by(FairMutex())
    assert pooled.claim_at_once(AttachRequest("web", tenant="acme")) is not None
    assert pooled.claim_at_once(AttachRequest("web", tenant="acme")) is None
    detached: list[bool] = []
    other = Thread(target=lambda: detached.append(pooled.detach("web")), daemon=True)
    other.start()
    other.join(10)
    assert detached == [True]


def test_what_was_left_is_let_in_with_its_elements_in_place(pooled: Wall, given: Endpoint) -> None:
    """Whoever died had added none of them, and the port is the last of what is left of the claim."""
    site, missing = pooled._site, list[tuple[str, ...]]()

    def let_in(bridge: str, index: int, link: str, mac: int) -> None:
        missing.append(site.backend.drift(site.journal.endpoints("attached")))
        site.links.let_in(bridge, index, link, mac)

    rewired(pooled, links=Wrapped(site.links, let_in=let_in)).detach("somebody-else")
    assert missing == [()]
    assert is_let_in(pooled, given)


def test_what_has_no_namespace_any_more_is_not_claimed_at_once(pooled: Wall, node: World) -> None:
    lost, other = pooled._site.journal.pooled()
    node.lab.node.run(["umount", lost.netns])
    pooled._caller.take_turns_by(FairMutex())
    assert pooled.claim_at_once(AttachRequest("web")) is None
    assert pooled.endpoints() == ()
    assert pooled.claim("web").netns == other.netns  # which ends the other one


def test_a_claim_at_once_is_done_with_whatever_is_written_next(pooled: Wall, node: World) -> None:
    """And until then nobody who reads the record beside it takes it for interrupted, but whoever writes it next."""
    pooled._caller.take_turns_by(FairMutex())
    web = pooled.claim_at_once(AttachRequest("web", tenant="acme"))
    with Wall.open(root=node.lab.root, reading=True) as beside:
        assert beside.endpoints() == (web,) == pooled.endpoints()
        journal = beside._site.journal
        assert (journal.unfinished(), journal.interrupted()) == (False, True)
        assert not pooled._site.journal.interrupted()
        assert_converged(pooled)
        pooled.claim_at_once(AttachRequest("other", tenant="acme"))
        assert [one.key.container_id for one in journal.claims_left()] == ["other"]
        pooled.detach("other")
        assert not journal.interrupted()


@pytest.mark.parametrize("at_once", [False, True])
def test_what_the_wall_says_of_whose_a_ready_one_is_makes_way_for_who_claims_it(
    pooled: Wall, node: World, *, at_once: bool
) -> None:
    """As an older program laid it: it is replaced, and nobody's claim fails by it."""
    about_nftables("maps that tell whose an address is")
    ready = pooled._site.journal.pooled()[0]
    stale = f"{{ {ready.address4} : 77 }}"
    node.lab.node.run(["nft", "add", "element", "inet", "cellwall", "tenant4", stale])
    request = AttachRequest("web", tenant="acme")
    if at_once:
        pooled._caller.take_turns_by(FairMutex())
    web = pooled.claim_at_once(request) if at_once else pooled.claim("web", tenant="acme")
    assert web is not None and web.netns == ready.netns
    assert_converged(pooled)
