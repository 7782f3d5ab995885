"""New policy versions for attached endpoints: whatever flows the old ones decided walks the policy again at its next
packet, and is stamped anew or ends there.

Blocks of versions are given out over and over: one is free again when no endpoint has it, nor one whose address still
drains, for draining ends with the flows that carry it; and when no tenant of any of them has its number.
"""

from collections.abc import Sequence
from itertools import chain

import msgspec

from cellwall.engine.site import Site
from cellwall.errors import Exhausted, KernelError
from cellwall.model.endpoint import Endpoint
from cellwall.model.versions import END_BLOCK, FIRST_BLOCK, Blocks, block_of, first_version, following, stems

_KEPT_BLOCKS = 16
"""How many former blocks of versions a flow may be idle through and still be judged anew: thousands of changes."""


def renewed(site: Site, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints under other versions, in the caller's transaction; flows of their former ones are still their own.
    Those of a block that is forgotten end here: it may be another endpoint's one day."""
    shared = msgspec.json.decode(site.journal.get("versions") or b"null", type=Blocks).shared
    after, forgotten = [], list[int]()
    for endpoint in endpoints:
        version = None if endpoint.generation in shared else following(endpoint.generation, site.settings.mark)
        past = endpoint.past_generations
        if version is None:
            (version,) = site.next_versions(1)
            past = (*past, endpoint.generation)
            forgotten += past[:-_KEPT_BLOCKS]
        after.append(msgspec.structs.replace(endpoint, generation=version, past_generations=past[-_KEPT_BLOCKS:]))
    if forgotten:
        site.flows.purge_flows(forgotten)
    return after


def taken_back(site: Site, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> list[Endpoint]:
    """`before` once more, where `after` may have been in force for a moment, in the caller's transaction: flows that
    began then carry its versions, so nobody gets those again."""
    return renewed(
        site,
        [
            msgspec.structs.replace(was, generation=tried.generation, past_generations=tried.past_generations)
            for was, tried in zip(before, after, strict=True)
        ],
    )


def journal_new_versions(site: Site, endpoints: Sequence[Endpoint]) -> None:
    """Put new versions on record, in the caller's transaction. Live elements differ from then on; a crash leaves
    `pending`, by which the next operation compares them."""
    site.journal.write_endpoints(renewed(site, endpoints), "attached")
    site.journal.put("pending", b"elements")


def enforce_new_versions(site: Site, laid: Sequence[Endpoint] = ()) -> None:
    """Bring what was journalled into the kernel, in one transaction, behind a laying. Idempotent. Where a flush had the
    bridge shut, sandboxes wait for this.

    `laid`: all that are attached, as that laying put them into empty sets. Then what differs is known, and not read."""
    if not (laid and _renew(site, laid)):
        repair_endpoints(site, rules=False)
    with site.journal.transaction():
        site.journal.drop("pending")


def _renew(site: Site, laid: Sequence[Endpoint]) -> bool:
    """False, and nothing has changed, where others have by now."""
    by_key = {endpoint.key: endpoint for endpoint in site.journal.endpoints("attached")}
    try:
        site.change(laid, [by_key[endpoint.key] for endpoint in laid])
    except KernelError:
        return False
    return True


def repair_endpoints(site: Site, *, rules: bool = True) -> tuple[str, ...]:
    """Make live what the journal says of endpoints; what was repaired, a line each. `rules`: see `Backend.repair`."""
    attached = site.journal.endpoints("attached")
    site.tell_all(attached)
    owned = site.backend.is_owned()  # before: what is compared while others can write it may be taken out at once
    repaired = site.backend.repair(attached, rules=rules)
    site.in_force.compared |= owned
    return repaired


def free_blocks(site: Site, blocks: Blocks) -> Blocks:
    """The next blocks that are nobody's, from the lowest again where the highest was given out; Exhausted."""
    mark = site.settings.mark
    holders = (*site.journal.endpoints(), *site.journal.draining.all())
    versions = (version for one in holders for version in (*one.past_generations, one.generation, one.tenant_number))
    taken = set(stems(tuple(versions)))
    order = chain(range(blocks.next, END_BLOCK), range(FIRST_BLOCK, min(blocks.next, END_BLOCK)))
    start = next((block for block in order if first_version(block, mark) not in taken), None)
    if start is None:
        raise Exhausted("policy versions: every block of them is some endpoint's")
    end = min((block for stem in taken if (block := block_of(stem, mark)) > start), default=END_BLOCK)
    return Blocks(start, min(end, END_BLOCK), mark, blocks.shared)
