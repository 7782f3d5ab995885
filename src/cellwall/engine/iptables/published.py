"""The rules that lead to published ports: the one part of an endpoint that is rules in iptables."""

from collections.abc import Collection, Sequence

from cellwall.engine.iptables.host import Host
from cellwall.errors import KernelError
from cellwall.lower.xt.chains import DNAT_CHAIN
from cellwall.lower.xt.endpoints import OwnedRule
from cellwall.lower.xt.tables import Family, own_lines, render_changes, render_rule

FAMILIES: tuple[tuple[Family, int], ...] = (("ipv4", 4), ("ipv6", 6))
_PUBLISHED = f"nat -A {DNAT_CHAIN} "


def publish(host: Host, rules: Sequence[OwnedRule]) -> None:
    """Add these rules, a commit a family."""
    for family, version in FAMILIES:
        added = [owned.rule for owned in rules if owned.version == version]
        _restore(host, family, render_changes(family, added, (), DNAT_CHAIN))


def withdraw(host: Host, rules: Collection[OwnedRule]) -> None:
    """Delete these rules, a commit a family; those that are not there are gone already."""
    for family, version in FAMILIES:
        removed = [owned for owned in rules if owned.version == version]
        try:
            _restore(host, family, render_changes(family, (), [owned.rule for owned in removed], DNAT_CHAIN))
        except KernelError:  # which rule it missed no program says alike
            live = set(published(host, family))
            left = [owned.rule for owned in removed if rule_line(owned) in live]
            if len(left) == len(removed):
                raise
            _restore(host, family, render_changes(family, (), left, DNAT_CHAIN))


def replace_published(host: Host, rules: Collection[OwnedRule]) -> None:
    """Make these all the rules there are, a commit a family."""
    for family, version in FAMILIES:
        if family not in host.families:
            continue
        lines = [rule_text(owned) for owned in rules if owned.version == version]
        _restore(host, family, "\n".join(["*nat", f":{DNAT_CHAIN} - [0:0]", *lines, "COMMIT", ""]))


def published(host: Host, family: Family) -> list[str]:
    """The live rules, as `own_lines` gives them."""
    saved = host.tables.save(host.in_force.variant, family)
    return [line for line in own_lines(saved) if line.startswith(_PUBLISHED)]


def rule_text(owned: OwnedRule) -> str:
    """A rule as the programs write it."""
    return render_rule("-A", DNAT_CHAIN, owned.rule, "ipv4" if owned.version == 4 else "ipv6")


def rule_line(owned: OwnedRule) -> str:
    """A rule as `published` gives it."""
    return f"nat {rule_text(owned)}"


def is_published(line: str) -> bool:
    """Whether a line of `own_lines` is such a rule."""
    return line.startswith(_PUBLISHED)


def _restore(host: Host, family: Family, text: str) -> None:
    if text:
        host.tables.restore(host.in_force.variant, family, text)
