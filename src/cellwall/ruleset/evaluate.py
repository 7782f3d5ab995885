"""The ruleset as the kernel runs it: one packet at one hook, or on its way through several.

Owns the meaning of chains and hooks (`statements` has that of rules). A drop in any base chain is final, an
accept ends only its base chain; `goto` does not come back to the chain it was called from; whatever cannot
be read ends its rule without a verdict. The agreement with the kernel is tested by sending packets through
it. A statement that is not known, or a fact that the context does not state, raises `Unsupported`: an
evaluation never guesses.

Not computed here: conntrack entries, routes, rates, defragmentation. The context of each hook states them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import msgspec

from cellwall.errors import Conflict, NotFound, Unsupported
from cellwall.ruleset.context import Context, Flow, HookName
from cellwall.ruleset.elements import Content
from cellwall.ruleset.packet import ETH_ARP, ETH_IP, ETH_IPV6, Packet, forwarded
from cellwall.ruleset.statements import Ending, Run, Translation, run_rule
from cellwall.ruleset.types import Chain, Reject, Rule, Ruleset, Table, TableFamily, Verdict

_CONNTRACK: Final = -200
_JUMPS: Final = 16  # NFT_JUMP_STACK_SIZE
_NAT_AT: Final = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
"""Where nat chains run, whatever their own priority: that only orders them among each other (nf_nat_core)."""


class Step(msgspec.Struct, frozen=True):
    """The place of a rule."""

    family: TableFamily
    table: str
    chain: str
    index: int


class Evaluation(msgspec.Struct, frozen=True):
    """What became of the packet.

    `step` and `rule` are the rule that decided, None where all was left to the chains' policy, accept. `path` has
    every rule that was passed to its end, in order. `packet` and `context` are those after the last rule: marks
    set, destination rewritten.
    """

    verdict: Literal["accept", "drop", "reject"]
    step: Step | None
    rule: Rule | None
    path: tuple[Step, ...]
    packet: Packet
    context: Context
    translation: Translation | None = None


class Evaluator:
    """A ruleset made ready for many packets."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._tables = [_Prepared(table) for table in ruleset.tables]

    def evaluate(self, packet: Packet, context: Context) -> Evaluation:
        """The fate of `packet` at one hook."""
        return self.walk(packet, (context,))

    def walk(self, packet: Packet, contexts: Sequence[Context]) -> Evaluation:
        """The fate of `packet` at several hooks, one after the other, until one drops it.

        The marks of the packet and of its flow, and a translated destination, are carried from each hook to the
        next and replace what the next context says of them.
        """
        if not contexts:
            raise Unsupported("an evaluation at no hook")
        passage = _Passage(Run(packet, contexts[0]))
        for number, context in enumerate(contexts):
            if number:
                passage.enter(context)
            self._hook(passage)
            if passage.verdict != "accept":
                break
        return passage.result()

    def _hook(self, passage: "_Passage") -> None:
        context = passage.run.context
        _refuse_stray(passage.run.packet, context.family)
        for _, _, table, chain in self._base_chains(context.family, context.hook):
            passage.base_chain(table, chain)
            if passage.verdict != "accept":
                return

    def _base_chains(self, family: TableFamily, hook: HookName) -> list[tuple[int, int, "_Prepared", Chain]]:
        found = [
            (_NAT_AT[hook] if chain.hook.type == "nat" else chain.hook.priority, chain.hook.priority, table, chain)
            for table in self._tables
            if table.family == family
            for chain in table.chains.values()
            if chain.hook is not None and chain.hook.hook == hook
        ]
        found.sort(key=lambda entry: entry[:2])
        for before, after in pairwise(found):
            if before[:2] == after[:2]:
                raise Conflict(f"{family} {hook}: {before[3].name} and {after[3].name} have one priority")
        return found


def evaluate(ruleset: Ruleset, packet: Packet, context: Context) -> Evaluation:
    """`Evaluator.evaluate` for a single packet."""
    return Evaluator(ruleset).evaluate(packet, context)


def walk(ruleset: Ruleset, packet: Packet, contexts: Sequence[Context]) -> Evaluation:
    """`Evaluator.walk` for a single packet."""
    return Evaluator(ruleset).walk(packet, contexts)


class _Prepared:
    """A table with its chains and sets by name."""

    def __init__(self, table: Table) -> None:
        self.family = table.family
        self.name = table.name
        self.chains = {chain.name: chain for chain in table.chains}
        self.contents = {named.name: Content(named) for named in table.sets}


class _Passage:
    """One packet's way through base chains, and what was decided so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.verdict: Literal["accept", "drop", "reject"] = "accept"
        self.decided: tuple[Step, Rule] | None = None
        self.path: list[Step] = []
        self.translation: Translation | None = None

    def enter(self, context: Context) -> None:
        """Go on to the next hook with the marks and the destination that the last one left."""
        before, flow = self.run.context, context.flow
        if before.flow is not None and flow is not None:
            flow = msgspec.structs.replace(flow, mark=before.flow.mark, label=before.flow.label)
            if self.translation is not None and self.translation.kind == "dnat":
                flow = msgspec.structs.replace(flow, reply=before.flow.reply, status=flow.status | {"dnat"})
        if context.family == before.family == "inet" and (before.hook, context.hook) == ("prerouting", "forward"):
            self.run.packet = forwarded(self.run.packet)
        self.run.context = msgspec.structs.replace(context, mark=before.mark, flow=flow)

    def base_chain(self, table: _Prepared, chain: Chain) -> None:
        hook, flow = chain.hook, self.run.context.flow
        if hook is None or (hook.type == "nat" and not self._translates(flow)):
            return
        if _before_conntrack(self.run.context, hook.priority):
            self.run.context = msgspec.structs.replace(self.run.context, flow=None)
            self._chain(table, chain, 0)
            self.run.context = msgspec.structs.replace(self.run.context, flow=flow)
        else:
            self._chain(table, chain, 0)

    def _translates(self, flow: Flow | None) -> bool:
        """nat chains see the first packet of a flow only, and none after a chain has translated it."""
        if flow is None or self.translation is not None or "confirmed" in flow.status:
            return False
        transport = self.run.packet.transport
        error = transport is not None and transport.protocol in (1, 58)
        return flow.state == "new" or (flow.state == "related" and not error)

    def _chain(self, table: _Prepared, chain: Chain, depth: int) -> bool:
        """Run a chain; whether the base chain has ended with it."""
        if depth > _JUMPS:
            raise Unsupported(f"{table.name} {chain.name}: more than {_JUMPS} jumps")
        for index, rule in enumerate(chain.rules):
            passed, ending = run_rule(rule, table.family, table.contents, self.run)
            if not passed:
                continue
            step = Step(table.family, table.name, chain.name, index)
            self.path.append(step)
            match ending:
                case None:
                    continue
                case Verdict(kind="return"):
                    return False
                case Verdict(kind="jump"):
                    if self._chain(table, _target(table, ending.chain), depth + 1):
                        return True
                case Verdict(kind="goto"):
                    return self._chain(table, _target(table, ending.chain), depth)
                case _:
                    self._decide(step, rule, ending)
                    return True
        return False

    def _decide(self, step: Step, rule: Rule, ending: Ending) -> None:
        self.decided = (step, rule)
        if isinstance(ending, Translation):
            self.translation = ending
            self.run.translate(ending)
        elif isinstance(ending, Reject):
            self.verdict = "reject"
        elif ending.kind == "drop":
            self.verdict = "drop"

    def result(self) -> Evaluation:
        step, rule = self.decided or (None, None)
        return Evaluation(
            self.verdict,
            step,
            rule,
            tuple(self.path),
            self.run.packet,
            self.run.context,
            self.translation,
        )


def _before_conntrack(context: Context, priority: int) -> bool:
    """Whether conntrack has not seen the packet yet. What comes back through loopback keeps its entry."""
    early = context.hook in ("prerouting", "output") and priority <= _CONNTRACK
    return context.family == "inet" and early and context.iifname != "lo"


def _refuse_stray(packet: Packet, family: TableFamily) -> None:
    reaches = {"inet": (ETH_IP, ETH_IPV6), "arp": (ETH_ARP,)}.get(family)
    if reaches is not None and packet.protocol not in reaches:
        raise Unsupported(f"a packet of type 0x{packet.protocol:04x} reaches no {family} hook")


def _target(table: _Prepared, name: str) -> Chain:
    chain = table.chains.get(name)
    if chain is None:
        raise NotFound(f"table {table.name} has no chain {name}")
    return chain
