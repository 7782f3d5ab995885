"""The verbs of the pool: sandboxes that stand ready, and containers that claim them."""

from collections.abc import Sequence
from typing import Unpack

from cellwall.api.opened import Opened
from cellwall.engine.arguments import AttachOptions, read_attach, read_requests
from cellwall.engine.requests import AttachRequest
from cellwall.model.endpoint import Endpoint


class PoolVerbs(Opened):
    """What `Wall` does with sandboxes that were made ahead of time."""

    def claim(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """`attach`, to a sandbox that stands ready: its namespace is at the endpoint's `netns`, and is removed at
        detach. Where none is left, or what is asked for is not what they have, it is attached as any."""
        asked = read_attach(container_id, **options)
        if not asked.names_policy:
            return self.claim_many([asked.request])[0]
        from cellwall.engine.policies.calls import attach_under, own_policy

        written = own_policy(asked, self.settings.openings)
        return attach_under(written, asked.request, lambda request: self._claim([request])[0])

    def claim_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Claim for all of these, in one transaction, or for none."""
        if any(request.policy is not None for request in read_requests(requests)):
            from cellwall.engine.policies.calls import refuse_other_values

            refuse_other_values(requests)
        return self._claim(requests)

    def claim_at_once(self, request: AttachRequest) -> Endpoint | None:
        """Claim, where that takes no longer than a claim does: a sandbox stands ready, nothing else is asked for, the
        node is as it was, and nobody else has the turn. None, and nobody has waited, where it does not; then
        `claim_many` says what becomes of it. For the only writer of a node."""
        from cellwall.engine.attachments.pool import claim_at_once

        return self._caller.at_once(request.container_id, lambda site: claim_at_once(site, request))

    def fill_pool(self, wanted: int) -> int:
        """Make so many ready sandboxes more, or as many as leave others room enough, in one transaction; returns how
        many. None on a node that is not up, or that changed since."""
        from cellwall.engine.attachments.pool import fill_pool

        with self._caller.turn():
            found = self._caller.take_as_laid()
            if found is None or self._site.current() is None:
                return 0
            return self._caller.open((), lambda site, found: fill_pool(site, found, wanted))

    def empty_pool(self, count: int) -> int:
        """End so many ready sandboxes; returns how many there are left."""
        from cellwall.engine.attachments.pool import end_ready

        with self._caller.turn():
            if self._site.journal.pooled_count():
                self._caller.close(lambda site: end_ready(site, count), leaves_links=True)
            return self._site.journal.pooled_count()

    @property
    def ready(self) -> int:
        """How many sandboxes stand ready."""
        with self._caller.mutex:
            return self._site.journal.pooled_count()

    def _claim(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        from cellwall.engine.attachments.pool import claim_endpoints

        return self._place(requests, claim_endpoints)
