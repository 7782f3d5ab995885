"""The node's rules: loaded at no moment less than before, and on record before and after.

Owns: the choice between a refresh and a replacement, and the record of which rules are live, whose flows they have yet
to judge, and that they are in doubt while they change.
"""

from collections.abc import Sequence

import msgspec

from cellwall.compile.usage import Usage, usage_of
from cellwall.engine.desired import desired_ruleset, digests, with_endpoints
from cellwall.engine.site import Foundation, Site
from cellwall.engine.versions import enforce_new_versions, journal_new_versions
from cellwall.errors import CellwallError
from cellwall.lower.nft.sets import schema_of
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.render import render_refresh, render_removal, render_replacement
from cellwall.ruleset.select import renamed, without_chains
from cellwall.ruleset.types import Ruleset


def setup_security_chain(site: Site, facts: NodeFacts, usage: Usage, uplink: str) -> bool:
    """Load B9-FORWARD and everything around it, at no moment less; whether anything had to be loaded.

    Live rules that are exactly what the last `up` left are refreshed, their sets kept and new ones added, in one
    transaction; anything else is replaced whole, with the elements of every attached endpoint. Open flows are judged
    again by the new rules, but for such as differ in the forms of exposure alone.
    """
    ruleset = desired_ruleset(site.settings, facts, usage, uplink)
    rules, sets = digests(ruleset)
    before = site.foundation()
    intact = before is not None and before.shape == site.rules.shape() != ""
    site.rules.schema = schema_of(usage)
    if before is not None and intact and before.rules == rules:
        return False
    attached = site.journal.endpoints("attached")
    filled = with_endpoints(ruleset, attached)
    if before is None:
        _replace_rules(site, filled, under_endpoints=bool(attached))
        return True
    former = digests(desired_ruleset(site.settings, facts, before.usage, uplink))
    judge_anew = attached if not intact or before.rules != former[0] else ()
    if intact and before.sets == former[1] and _has_sets_of(before, attached):
        _refresh_rules(site, before, filled)
    else:
        _doubt_rules(site, msgspec.structs.replace(before, rules="", sets="", shape=""))
        _replace_rules(site, filled, under_endpoints=bool(attached))
    _note_rules(site, _doubted(site, before), rules, sets, usage, judge_anew=judge_anew)
    if judge_anew:
        enforce_new_versions(site)
    return True


def remove_rules(site: Site, found: Foundation | None) -> None:
    """Our tables and the copy of them, whatever is in either. Idempotent."""
    usage, uplink = (found.usage, found.uplink) if found else (Usage(), "")
    ruleset = desired_ruleset(site.settings, NodeFacts(), usage, uplink)
    site.rules.load(render_removal(ruleset) + render_removal(renamed(ruleset, SPARE_TABLE)))


def _has_sets_of(before: Foundation, attached: Sequence[Endpoint]) -> bool:
    """No endpoint has an element in a set that is missing."""
    used = usage_of(binding for endpoint in attached for binding in endpoint.bindings)
    return before.usage.union(used) == before.usage


def _refresh_rules(site: Site, before: Foundation, ruleset: Ruleset) -> None:
    """Chains and the node's own sets anew in one transaction, the sets of endpoints kept."""
    _doubt_rules(site, before)
    try:
        site.rules.load(render_refresh(ruleset))
    except CellwallError:
        _note_rules(site, before, before.rules, before.sets, before.usage, shape=before.shape)
        raise


def _replace_rules(site: Site, ruleset: Ruleset, *, under_endpoints: bool) -> None:
    """Our tables anew, whatever stands under their name. Under endpoints a copy stands beside them meanwhile, and
    sets are full before the first rule looks anything up in them.

    One transaction is not enough. The kernel puts a new base chain before the old one, so a packet that meets the end
    of the transaction between the two finds both empty; and an interval set that is made in a transaction is filled
    after the rules of the same transaction came into force (linux/net/netfilter/nf_tables_api.c, nf_tables_commit).
    A flow that found the floor empty is stamped as accepted, and goes on: 38,927 of 379,698 denied datagrams
    passed during 40 replacements in one transaction each.

    Each load leaves a whole table standing, ours or the copy, so a death between two of them opens nothing. Where it
    left ours without rules, a copy that may be of other rules, of another program even, is all that holds, and is not
    touched until ours are whole. What is live tells, not a record: that may be lost, or older than a flush.
    """
    copy = renamed(ruleset, SPARE_TABLE)
    if not under_endpoints:
        site.rules.load(render_removal(copy) + render_replacement(ruleset))
        return
    copy_holds = site.rules.stands(SPARE_TABLE) and not site.rules.stands(TABLE)
    for tables in (ruleset,) if copy_holds else (copy, ruleset):
        site.rules.load(render_replacement(without_chains(tables)))
        site.rules.load(render_refresh(tables))
    site.rules.load(render_removal(copy))


def _doubted(site: Site, found: Foundation) -> Foundation:
    """A foundation that does not hold, whoever looks, and that only these settings may mend: rules that follow them
    may be live already."""
    return msgspec.structs.replace(found, program="", settings=site.settings_text)


def _doubt_rules(site: Site, found: Foundation) -> None:
    """Until what is loaded now is on record, whoever comes next finds a foundation that does not hold, and lays it: a
    crash may leave other rules than were recorded, or the copy beside them."""
    _note_rules(site, _doubted(site, found), found.rules, found.sets, found.usage, shape=found.shape)


def _note_rules(
    site: Site,
    before: Foundation,
    rules: str,
    sets: str,
    usage: Usage,
    *,
    shape: str | None = None,
    judge_anew: Sequence[Endpoint] = (),
) -> None:
    """A crash between loading and the end of `up` must find the rules that are live on record, and whose flows they
    have yet to judge."""
    live = site.rules.shape() if shape is None else shape
    found = msgspec.structs.replace(before, rules=rules, sets=sets, usage=usage, shape=live)
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found))
        if judge_anew:
            journal_new_versions(site, judge_anew)
