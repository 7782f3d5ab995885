"""What the live tables have otherwise than they should: rule by rule, in nft's own words.

The same rule has many spellings, and nft lists in one. So what is wanted is loaded in a network namespace that is
thrown away, and listed there as the live tables are here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cellwall.adapters.nftables.blocks import Block, blocks_of
from cellwall.adapters.process import run
from cellwall.adapters.throwaway import in_new_namespace
from cellwall.errors import CellwallError
from cellwall.names import TABLE

_FAMILIES = ("bridge", "arp", "inet")

Contents = Mapping[str, Sequence[str]]
"""What each chain, set or object of a listing consists of, by "inet chain NAME"."""


def differences(wanted: str, *, static: frozenset[str]) -> tuple[str, ...]:
    """Rules, and elements of the sets in `static`, that are missing from our live tables or unknown in them, a line
    each; nothing where nft cannot tell. `wanted` is the text of the tables. Changes nothing."""
    try:
        should = in_new_namespace(lambda: _listed(wanted))
        live = "".join(run(["nft", "-s", "list", "table", family, TABLE], check=False).text for family in _FAMILIES)
    except CellwallError:
        return ()
    return tuple(_compared(_contents(should, static), _contents(live, static)))


def _listed(text: str) -> str:
    # Two programs: one lists what there was before it loaded anything.
    run(["nft", "-f", "-"], input=text.encode())
    return run(["nft", "-s", "list", "ruleset"]).text


def _contents(listing: str, static: frozenset[str]) -> Contents:
    """Chains with their rules in order, objects, and sets: of those in `static` what is in them, of others what they
    are."""
    return {f"{one.family} {one.kind} {one.name}": _content(one, static) for one in blocks_of(listing)}


def _content(block: Block, static: frozenset[str]) -> list[str]:
    if block.kind not in ("set", "map"):
        return list(block.lines)
    kept = [line for line in block.lines if not line.startswith("elements")]
    if block.name in static:
        for line in block.lines:
            if line.startswith("elements"):
                kept += [part.strip() for part in line.partition("{")[2].rstrip("} ").split(",") if part.strip()]
    return kept


def _compared(wanted: Contents, live: Contents) -> Iterator[str]:
    for name in sorted(wanted.keys() | live.keys()):
        if name not in live:
            yield f"missing: {name}"
        elif name not in wanted:
            yield f"unknown: {name}"
        else:
            yield from _lines(name, wanted[name], live[name])


def _lines(name: str, wanted: Sequence[str], live: Sequence[str]) -> Iterator[str]:
    missing, unknown = Counter(wanted) - Counter(live), Counter(live) - Counter(wanted)
    yield from (f"missing in {name}: {line}" for line in missing.elements())
    yield from (f"unknown in {name}: {line}" for line in unknown.elements())
    if not missing and not unknown and wanted != live and name.split()[1] == "chain":
        yield f"in another order: {name}"
