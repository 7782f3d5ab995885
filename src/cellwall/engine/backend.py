"""What the engine asks of a mechanism of the kernel that can hold the wall: few verbs in the wall's own words.

A backend knows its rules, its sets and how to bring them from one state to another with no moment open. It knows
neither the journal nor links: what is on record, and when, is the engine's.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from cellwall.compile.usage import Usage
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings

BackendName = Literal["nftables", "iptables"]


class Holder(msgspec.Struct, frozen=True):
    """What holds a wall, in few words as text: the mechanism, and of iptables the variant, where the record tells."""

    backend: BackendName
    variant: Literal["", "nft", "legacy"] = ""

    def __str__(self) -> str:
        return f"{self.backend} ({self.variant})" if self.variant else self.backend


class Wanted(msgspec.Struct, frozen=True):
    """What the wall of a node follows from, endpoints left out."""

    settings: Settings
    facts: NodeFacts
    usage: Usage
    uplink: str


class Laid(msgspec.Struct, frozen=True):
    """What is on record of a wall that was laid: digests of the rules and of the sets as they were wanted, the `shape`
    that it had, the forms of exposure that it has rules for, and `details` that its backend alone reads."""

    rules: str
    sets: str
    shape: str
    usage: Usage
    details: str = ""


class Laying(Protocol):
    """A wall that is to be laid, decided and not yet done.

    `rules`, `sets` and `details` go on record. `keeps`: it is one transaction over what stands, which a
    refusal leaves as it was; otherwise what is live is in doubt until all of it is done. `keeps_sets`: what packets
    wrote into sets outlives it. `fills`: sets of endpoints begin empty, and have afterwards what those own that it was
    planned with. `judges_anew`: it is another policy than the one that open flows were judged by.
    """

    @property
    def rules(self) -> str: ...
    @property
    def sets(self) -> str: ...
    @property
    def details(self) -> str: ...
    @property
    def keeps(self) -> bool: ...
    @property
    def keeps_sets(self) -> bool: ...
    @property
    def fills(self) -> bool: ...
    @property
    def judges_anew(self) -> bool: ...

    def lay(self) -> str:
        """Do it. At no moment does anything pass that neither the wall before nor this one lets through, and a death
        at any point leaves one of the two whole. Returns the `shape` of what was laid; "" where somebody else wrote
        meanwhile, so that what is live need not be it."""


Settled = Callable[[], bool]
"""Whether what is on record of the wall is what it was."""


Shut = Callable[[], None]
"""Closes in another way, until somebody lays the wall. Whoever changed the rules may keep theirs locked when they are
done: nf_tables has the end of such a program wait for a grace period of RCU, a tenth of a second on a busy machine, and
no transaction meanwhile (net/netfilter/nf_tables_api.c, nft_rcv_nl_event)."""


class Backend(Protocol):
    """One mechanism. Errors of the kernel are KernelError: ENOENT where something is missing that should be there,
    EEXIST where something is there already, EINVAL where what stands is another program's; then nothing has changed.
    """

    @property
    def name(self) -> BackendName: ...

    def refusal(self, settings: Settings) -> str:
        """What this host lacks of it, "" where it can hold a whole wall. Leaves nothing behind."""

    def holder(self, laid: Laid) -> Holder:
        """What holds that wall."""

    def marks_frames(self, laid: Laid) -> bool:
        """Whether that wall marks what it judged of a sandbox's frames before the node's IP sees them."""

    def carries_ipv6(self, facts: NodeFacts, laid: Laid) -> bool:
        """Whether that wall judges and translates IPv6 of sandboxes; it drops it otherwise."""

    def plan(self, wanted: Wanted, attached: Sequence[Endpoint], before: Laid | None) -> Laying | None:
        """How to bring what is live to the wall with these endpoints in it; None where it is live already, exactly as
        it was recorded. From now on changes of endpoints go to the sets of the wall that is wanted."""

    def take(self, settings: Settings, laid: Laid) -> None:
        """Changes of endpoints go to the sets of that wall from now on."""

    def take_remains(self) -> None:
        """Changes go to whatever else of a wall the death of a laying left standing as well, until `plan` or `take`."""

    def shape(self) -> str:
        """A digest of the live wall without endpoints, "" where it is missing: equal digests, equal rules."""

    def is_kept(self) -> bool:
        """Where the wall is to be this process's alone to write: whether it is. Laying it makes it so."""

    def is_owned(self) -> bool:
        """Whether nobody but this process can write the wall, entries of endpoints included."""

    def stands(self) -> bool:
        """Whether what others flush at once is there, and met: what judges packets, the floor that it asks, and what
        lets frames get as far as that. Microseconds, and no comparison: what else differs, `shape` tells."""

    def is_entire(self) -> bool:
        """`stands`, and so does whatever else a flush of a part takes away, as far as that is told in a few
        milliseconds: no comparison either."""

    def close_unjudged(
        self, laid: Laid, *, ours: bool = True, settled: Settled | None = None, shut: Shut | None = None
    ) -> bool:
        """Where somebody took away what judges and left what vouches: have it vouch for nobody, so that nothing passes
        until the wall is laid. Fast, and before anything slow. True where it did; does nothing to a wall that stands.
        Of one that is not `ours`, but another version's, less is known of what it is when it stands. `settled`:
        for who does not hold the writer lock; asked once it would be noticed that anybody lays another wall. `shut`:
        what closes without a transaction of rules, done before that.
        """

    def differences(self, wanted: Wanted) -> tuple[str, ...]:
        """What live rules have otherwise than they should, a line each, as far as it can be told rule by rule. Slow:
        for who looks because `shape` differs."""

    def remove(self, wanted: Wanted, *, beside: bool = False) -> None:
        """Nothing of the wall is left, nor of a laying that died; what is not ours stays as it is. Idempotent.
        `beside`: the wall of another mechanism stands, whole, and packets that it lets pass are to notice nothing."""

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """From one state of these endpoints to another, in one transaction. An attach comes from none, a detach leads
        to none. Where the wall does not stand nothing is added, and no sandbox that stood ready becomes anybody's,
        whether or not that adds anything: KernelError ENOENT."""

    def drift(self, attached: Sequence[Endpoint]) -> tuple[str, ...]:
        """What differs between what these endpoints need and what is live of all endpoints, a line each."""

    def missing(self, endpoints: Sequence[Endpoint], former: Sequence[Endpoint] = ()) -> tuple[str, ...]:
        """What is not live of these endpoints, a line each. `former`: what they were until they were changed just now,
        one for each; then what that laid need not be looked for."""

    def repair(self, attached: Sequence[Endpoint], *, rules: bool = True) -> tuple[str, ...]:
        """Make live what these endpoints need and nothing else; what was repaired, a line each. Adds nothing where the
        wall does not stand: laying it brings the endpoints with it. What cannot be read for any other reason is an
        error: who calls may forget what had to be repaired only after it was. `rules`: those that endpoints have, too,
        where a mechanism gives them any; for who has just laid them, elements alone."""
