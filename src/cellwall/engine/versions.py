"""New policy versions for attached endpoints: whatever flows the old ones decided walks the policy again at its next
packet, and is stamped anew or ends there."""

from collections.abc import Sequence

import msgspec

from cellwall.engine.site import Site
from cellwall.model.endpoint import Endpoint

_KEPT_GENERATIONS = 64
"""How many former policy versions a flow may be idle through and still be judged anew instead of dropped."""


def renewed(endpoint: Endpoint, generation: int) -> Endpoint:
    """The endpoint under another policy version; flows of its former ones are still its own."""
    past = (*endpoint.past_generations, endpoint.generation)[-_KEPT_GENERATIONS:]
    return msgspec.structs.replace(endpoint, generation=generation, past_generations=past)


def journal_new_versions(site: Site, endpoints: Sequence[Endpoint]) -> None:
    """Put new versions on record, in the caller's transaction. Live elements differ from then on; a crash leaves
    `pending`, by which the next operation compares them."""
    generations = site.next_versions(len(endpoints))
    pairs = zip(endpoints, generations, strict=True)
    site.journal.write_endpoints([renewed(endpoint, generation) for endpoint, generation in pairs], "attached")
    site.journal.put("pending", b"elements")


def enforce_new_versions(site: Site) -> None:
    """Bring what was journalled into the kernel, in one transaction. Idempotent."""
    repair_endpoints(site)
    with site.journal.transaction():
        site.journal.drop("pending")


def repair_endpoints(site: Site) -> tuple[str, ...]:
    """Make live what the journal says of endpoints; what was repaired, a line each."""
    return site.backend.repair(site.journal.endpoints("attached"))
