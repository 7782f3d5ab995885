"""learn: from what a policy that only watches would have denied to one that allows it."""

import os
import time
from collections.abc import Iterator

from cellwall.audit.events import MAX_LIMIT, Event
from cellwall.audit.selection import Selection, parse_selection
from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import InvalidSpec, NotFound
from cellwall.model.policy import Policy, TierName

_DESCRIPTION = """\
Propose an allow-list for a tenant, or for one container, from what its policy would have denied while it only watched
(monitor: true), as far as a daemon recorded it: a policy as YAML, with comments that say from how many attempts, by
whom and when. What the policy allows already is kept; what the floor denies is left out, and so is mail to servers.
Read it, shorten it, and bring it into force with `cellwall policy set`.
"""


def register(commands: "Commands[Parser]") -> None:
    """Add the command."""
    parser = add_command(
        commands, "learn", "propose an allow-list from what a policy only watched", description=_DESCRIPTION
    )
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", metavar="NAME", default="", help="the policy of this tenant")
    whose.add_argument("--container", metavar="ID", default="", help="the own policy of this sandbox")
    parser.add_argument("--since", metavar="TIME", default="", help="from this time on: RFC 3339, or 15m, 2h, 7d")
    parser.add_argument("--prefix4", metavar="N", default="32", help="widen IPv4 addresses to networks of /N")
    parser.add_argument("--prefix6", metavar="N", default="128", help="widen IPv6 addresses to networks of /N")
    parser.set_defaults(act=_learn)


def _learn(invocation: Invocation) -> Outcome:
    from cellwall.api import policy_judge
    from cellwall.audit.learning import acceptable, proposal_text, propose
    from cellwall.wire.policies import document_of

    given = invocation.arguments
    tier: TierName = "tenant" if given.tenant else "endpoint"
    selection = parse_selection(tenant=given.tenant, container=given.container, since=given.since, now=time.time())
    prefix4, prefix6 = _length(given.prefix4, "prefix4", 32), _length(given.prefix6, "prefix6", 128)
    events = _recorded(invocation, selection)
    present = _present(invocation)
    seen = propose(events, present, tier, prefix4=prefix4, prefix6=prefix6)
    if not seen.seen and (present is None or present.mode == "open"):  # what is proposed of nothing closes everything
        whose = f"tenant: {given.tenant}" if given.tenant else f"container: {given.container}"
        raise NotFound(f"{whose}: has no policy that denies, and nothing is on record that one would have denied")
    proposal = acceptable(seen, policy_judge(invocation.loaded().settings, endpoint=tier == "endpoint"))
    whose = f"tenant {given.tenant}" if given.tenant else f"container {given.container}"
    document = {
        "policy": document_of(proposal.policy),
        "attempts": sum(found.count for found in (*proposal.rules.values(), *proposal.clients.values())),
        "left_out": [{"rule": str(rule), "reason": why} for rule, _, why in proposal.left_out],
        "unrecorded": proposal.unrecorded,
    }
    return Outcome(document, proposal_text(proposal, whose))


def _present(invocation: Invocation) -> Policy | None:
    """The policy that watches, or watched; None where there is none any more."""
    given = invocation.arguments
    with invocation.wall_to_close() as wall:
        try:
            known = wall.policy(tenant=given.tenant, container=given.container)
        except NotFound:
            return None
    return None if known is None else known.policy


def _recorded(invocation: Invocation, selection: Selection) -> Iterator[Event]:
    if os.geteuid() == 0:
        from cellwall.adapters.events.reading import every

        yield from every(invocation.paths.in_log(), selection)
        return
    from cellwall.client import Client

    until, more = "", True
    with Client.open(root=invocation.arguments.root) as client:
        while more:
            asked = {"tenant": selection.tenant, "container": selection.container, "since": selection.since}
            found = client.log(**asked, until=until, limit=MAX_LIMIT)
            yield from found.events
            until, more = found.reached, found.more and found.reached != until


def _length(text: str, field: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3) or not 1 <= int(text) <= most:
        raise InvalidSpec(field, text, f"must be a length from 1 to {most}")
    return int(text)
