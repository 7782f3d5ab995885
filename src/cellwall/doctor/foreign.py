"""Other programs' rules, from the text in which nft and iptables-legacy-save list them. Pure.

What is read of a rule is what can matter to a sandbox: the interfaces it names, whether it accepts or drops, where it
leads, and what it does to flows and marks. Of what is not understood nothing is claimed.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from cellwall.adapters.nftables.blocks import blocks_of
from cellwall.doctor.observation import Act, Chain, FlowTable, Rule

_ALL = 0xFFFFFFFF
_HOOK = re.compile(r"type (\S+) hook (\S+) (?:devices? (?:= )?(\{[^}]*\}|\S+) )?priority ([^;]+);(?: policy (\S+);)?")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_INTERFACE = r"(!= )?(\{[^}]*\}|\"[^\"]*\"|[^\s{}]+)"
_ENTERS = re.compile(rf"\b(?:iif(?:name)?|ibrname) {_INTERFACE}")
_LEAVES = re.compile(rf"\b(?:oif(?:name)?|obrname) {_INTERFACE}")
_VMAP = re.compile(r"^(.*?)\bvmap \{ (.*?) \}")
_LEADS = re.compile(r"\b(?:jump|goto) (\S+)")
_NOISE = re.compile(
    r"comment \"[^\"]*\"|\bcounter\b( packets \d+ bytes \d+)?|\blog\b( (prefix|level|group) (\"[^\"]*\"|\S+))*"
)
_SETS_MARK = re.compile(r"\bmeta mark set (.*)")
_CHANGES = re.compile(r"(?:meta )?mark((?: (?:&|\||\^|and|or|xor) 0x[0-9a-f]+)+)")
_READS = re.compile(r"\b(?:meta )?mark (?:& (0x[0-9a-f]+) )?(?:==|!=)? ?(0x[0-9a-f]+)")
_ACTS: tuple[tuple[Act, re.Pattern[str]], ...] = (
    ("takes out of tracking", re.compile(r"\bnotrack\b|-j NOTRACK\b|-j CT .*--notrack")),
    ("translates", re.compile(r"\bdnat\b|\bredirect\b|-j (DNAT|REDIRECT)\b|xt target \"(DNAT|REDIRECT)\"")),
    ("diverts", re.compile(r"\btproxy\b|\b(fwd|dup) to\b|-j (TPROXY|TEE)\b|xt target \"(TPROXY|TEE)\"")),
    ("offloads", re.compile(r"\bflow (add|offload)\b")),
    ("marks the flow", re.compile(r"\bct mark set\b|xt target \"CONNMARK\"|-j CONNMARK --(set-x?mark|save-mark)")),
)


def parse_nft(listing: str, *, ours: frozenset[str]) -> tuple[tuple[Chain, ...], tuple[FlowTable, ...]]:
    """The chains and flow tables of `nft --stateless list ruleset`, without those of the tables in `ours`."""
    chains: list[Chain] = []
    flow_tables: list[FlowTable] = []
    for block in blocks_of(listing):
        if block.table in ours:
            continue
        if block.kind == "chain":
            chains.append(_nft_chain(Chain("nftables", block.family, block.table, block.name), block.lines))
        elif block.kind == "flowtable":
            devices = next((line for line in block.lines if line.startswith("devices")), "")
            flow_tables.append(FlowTable(block.family, block.table, block.name, _names(devices.partition("=")[2])))
    return tuple(chains), tuple(flow_tables)


def _nft_chain(bare: Chain, lines: Sequence[str]) -> Chain:
    hook = _HOOK.match(lines[0]) if lines else None
    rules = tuple(rule for line in lines[1 if hook else 0 :] for rule in _nft_rules(line))
    if hook is None:
        return msgspec.structs.replace(bare, rules=rules)
    return msgspec.structs.replace(
        bare,
        rules=rules,
        kind=hook[1],
        hook=hook[2],
        devices=_names(hook[3] or ""),
        priority=_priority(hook[4], bare.family),
        drops=hook[5] == "drop",
    )


def _priority(text: str, family: str) -> int:
    word, _, offset = text.strip().partition(" ")
    named = _BRIDGE_PRIORITIES if family == "bridge" else _PRIORITIES
    base = named.get(word)
    if base is None:
        return int(word) if word.lstrip("-").isdigit() else 0
    return base + int(offset.replace(" ", "") or "0")


def _nft_rules(line: str) -> Iterator[Rule]:
    """A rule, or for a verdict map one for each of its entries."""
    spread = _VMAP.match(line)
    if spread is None:
        yield _nft_rule(line)
        return
    for entry in spread[2].split(", "):
        key, _, verdict = entry.rpartition(" : ")
        yield _nft_rule(f"{spread[1]}{key} {verdict}")


def _nft_rule(text: str) -> Rule:
    plain = " ".join(_NOISE.sub("", text).split())
    drops = re.search(r"\b(drop|reject)\b", plain)
    accepts = re.search(r"\baccept\b", plain)
    return Rule(
        text=text,
        enters=_interfaces(_ENTERS, plain),
        leaves=_interfaces(_LEAVES, plain),
        verdict="drop" if drops else "accept" if accepts else "",
        always=re.fullmatch(r"accept|drop|reject( with .*)?", plain) is not None,
        leads_to=tuple(_LEADS.findall(plain)),
        acts=_acts(plain),
        writes=_nft_writes(plain),
        reads=_nft_reads(plain),
    )


def _acts(text: str) -> tuple[Act, ...]:
    return tuple(act for act, pattern in _ACTS if pattern.search(text))


def _interfaces(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.search(text)
    if found is None:
        return ()
    return tuple(("!" if found[1] else "") + name for name in _names(found[2]))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for word in text.strip("{} ").split(",") if (name := word.strip().strip('"')))


def _nft_writes(text: str) -> int:
    """The bits that may be other ones afterwards."""
    if 'xt target "MARK"' in text:
        return _ALL
    found = _SETS_MARK.search(text)
    if found is None:
        return 0
    changes = _CHANGES.match(found[1])
    if changes is None:
        return _ALL
    bits = 0
    for word, number in re.findall(r"(&|\||\^|and|or|xor) (0x[0-9a-f]+)", changes[1]):
        bits |= _ALL & ~int(number, 16) if word in ("&", "and") else int(number, 16)
    return bits


def _nft_reads(text: str) -> int:
    matches = _SETS_MARK.sub("", re.sub(r"\bct mark\b[^,]*?0x[0-9a-f]+", "", text))
    return _bits_of(_READS.findall(matches))


def _bits_of(compared: list[tuple[str, str]]) -> int:
    """The bits that comparisons ask for: of a mask all, of a whole mark those that it has."""
    bits = 0
    for mask, value in compared:
        bits |= int(mask or value, 16)
    return bits


# ---------------------------------------------------------------- iptables-legacy

_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
_HOOKS["POSTROUTING"] = "postrouting"
_TABLES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_XT_MARK = re.compile(r"-j MARK --set-x?mark (0x[0-9a-f]+)(?:/(0x[0-9a-f]+))?")
_XT_RESTORE = re.compile(r"-j CONNMARK --restore-mark(?: --nfmask (0x[0-9a-f]+))?")
_XT_READS = re.compile(r"-m mark (?:! )?--mark (0x[0-9a-f]+)(?:/(0x[0-9a-f]+))?")


def parse_xtables(listing: str, family: Literal["ip", "ip6"]) -> tuple[Chain, ...]:
    """The chains of `iptables-legacy-save` or `ip6tables-legacy-save`."""
    chains: dict[tuple[str, str], Chain] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for line in listing.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[table, name] = _xt_chain(table, name, policy, family)
        elif line.startswith("-A "):
            name, _, text = line[3:].partition(" ")
            rules.setdefault((table, name), []).append(_xt_rule(text))
    return tuple(msgspec.structs.replace(chain, rules=tuple(rules.get(place, ()))) for place, chain in chains.items())


def _xt_chain(table: str, name: str, policy: str, family: str) -> Chain:
    base = Chain("iptables-legacy", family, table, name)
    if policy == "-":
        return base
    hook = _HOOKS.get(name, "")
    priority = 100 if (table, name) in (("nat", "POSTROUTING"), ("nat", "INPUT")) else _TABLES.get(table, 0)
    kind = "nat" if table == "nat" else "filter"
    return msgspec.structs.replace(base, hook=hook, kind=kind, priority=priority, drops=policy == "DROP")


def _xt_rule(text: str) -> Rule:
    target = re.search(r"-[jg] (\S+)", text)
    name = target[1] if target else ""
    final = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop"}.get(name, "")
    verdict: Literal["", "accept", "drop"] = "accept" if final == "accept" else "drop" if final else ""
    written = [int(mask or "0xffffffff", 16) for _, mask in _XT_MARK.findall(text)]
    written += [int(mask or "0xffffffff", 16) for mask in _XT_RESTORE.findall(text)]
    return Rule(
        text=text,
        enters=_xt_interface("-i", text),
        leaves=_xt_interface("-o", text),
        verdict=verdict,
        always=bool(verdict) and text.startswith("-j"),
        leads_to=(name,) if name and not final and name != "RETURN" else (),
        acts=_acts(text),
        writes=max(written, default=0),
        reads=_bits_of([(mask, value) for value, mask in _XT_READS.findall(text)]),
    )


def _xt_interface(flag: str, text: str) -> tuple[str, ...]:
    found = re.search(rf"(?:^| )(! )?{flag} (\S+)", text)
    if found is None:
        return ()
    return (("!" if found[1] else "") + found[2].replace("+", "*"),)
