"""Which iptables, and whether this host has a whole wall's worth of it."""

from cellwall.engine.backend import Laid
from cellwall.engine.iptables.contracts import Tables, Variant
from cellwall.engine.iptables.host import Form, recorded_form
from cellwall.lower.xt.view import NODE_MARKS
from cellwall.model.settings import Settings


def refusal(tables: Tables, settings: Settings) -> str:
    """What is missing for a whole wall, "" where nothing is."""
    if not settings.mark & NODE_MARKS:
        return f"node.mark: {settings.mark:#x}: must be one of the bits 1 to 28"
    allowed: tuple[Variant, ...] = ("nft", "legacy") if settings.iptables == "auto" else (settings.iptables,)
    lacking = {variant: tables.lacking(variant) for variant in allowed}
    if not all(lacking.values()):
        return ""
    return "; ".join(f"iptables-{variant} lacks {', '.join(missing)}" for variant, missing in lacking.items())


def choose_form(tables: Tables, settings: Settings, before: Laid | None) -> Form:
    """The variant that is configured; where it is left open that of the wall in force while it works, else where the
    host's own rules are. Where none has all that a wall needs, as for who closes, one that is installed."""
    former = recorded_form(before)
    if settings.iptables != "auto":
        variant: Variant = settings.iptables
    elif former is not None and not tables.lacking(former.variant):
        variant = former.variant
    else:
        variant = next(iter((*tables.variants(), *tables.installed())), "nft")
    return Form(variant, tables.features(variant))
