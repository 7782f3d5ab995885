"""The rules of whichever mechanism holds a lab node's wall: taken away as a control, and updates that are refused."""

from collections.abc import Callable
from functools import partial

from cellwall.adapters.iptables.tables import XtTables
from cellwall.adapters.nftables.text import load_text
from cellwall.attack.world import World
from cellwall.engine.iptables.contracts import Variant
from cellwall.errors import CellwallError, LabError
from cellwall.lower.xt.chains import GUARD, hook_chain
from cellwall.lower.xt.clauses import chain_of
from cellwall.lower.xt.tables import Family, render_removal
from cellwall.names import SECURITY_CHAIN, TABLE

_FAMILIES: tuple[Family, ...] = ("bridge", "ipv4", "ipv6")
_NFT_CHAINS = (SECURITY_CHAIN, "egress", "tracked-guard", "input-guard")
_IPTABLES_CHAINS = (SECURITY_CHAIN, chain_of("egress"), hook_chain("INPUT"), GUARD)


def take_rules_away(w: World) -> None:
    """Delete every rule of ours. The wall is repaired by the next operation that looks at it."""
    variant = variant_of(w)
    if variant is None:
        for family in ("inet", "bridge"):
            w.node.run(["nft", "delete", "table", family, TABLE])
        return
    tables = XtTables()
    with w.node.enter():
        for family in _FAMILIES:
            tables.restore(variant, family, render_removal(tables.save(variant, family), family))


def refused_updates(w: World) -> int:
    """How many different updates `refused_update` can try."""
    return len(_NFT_CHAINS if variant_of(w) is None else _IPTABLES_CHAINS)


def refused_update(w: World, number: int) -> None:
    """Empty a chain, and in the same transaction something that the kernel refuses: nothing of it may come true."""
    variant = variant_of(w)
    if variant is None:
        _load_refused_by_nft(w, _NFT_CHAINS[number])
        return
    chain, tables = _IPTABLES_CHAINS[number], XtTables()
    text = f"*filter\n:{chain} - [0:0]\n-A {chain} -m set --match-set nowhere src -j DROP\nCOMMIT\n"
    families: tuple[Family, ...] = ("ipv4", "ipv6")
    for family in families:
        with w.node.enter():
            _must_fail(partial(tables.restore, variant, family, text))


def _load_refused_by_nft(w: World, chain: str) -> None:
    if w.wall is None:
        raise LabError("an update needs a wall of ours")
    text = f"flush chain inet {TABLE} {chain}\nadd rule inet {TABLE} {chain} jump nowhere\n"
    with w.node.enter():  # no operation of the wall writes rules that are refused
        _must_fail(partial(load_text, text))


def _must_fail(update: Callable[[], None]) -> None:
    try:
        update()
    except CellwallError:
        return
    raise LabError("the kernel took a rule that leads nowhere")


def variant_of(w: World) -> Variant | None:
    """In which iptables the wall is; None where it is in nftables."""
    tables = XtTables()
    both: tuple[Variant, ...] = ("nft", "legacy")
    with w.node.enter():
        return next((one for one in both if f":{SECURITY_CHAIN} " in tables.save(one, "ipv4")), None)
