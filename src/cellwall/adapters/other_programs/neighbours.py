"""Forward chains of other programs: the filter tables of iptables by their own programs, other tables by nft's JSON.

The kernel is asked first which tables there are. A program of iptables that looks at a table nobody made would make it,
and a node without neighbours starts no program at all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from cellwall.engine.node.foreign_chains import ForeignChains, ForwardChain, NftChain, Program, Translation

if TYPE_CHECKING:
    from cellwall.adapters.other_programs.translations import OthersTranslations

_UNSPEC, _FORWARD, _DROP = 0, 2, 0  # NFPROTO_UNSPEC, NF_INET_FORWARD, NF_DROP
_TABLE, _NAME, _HOOK, _POLICY = 1, 3, 4, 5  # NFTA_CHAIN_*
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_NFT: dict[tuple[str, str, str], Program] = {
    ("ip", "filter", "FORWARD"): "iptables-nft",
    ("ip6", "filter", "FORWARD"): "ip6tables-nft",
}
_LEGACY: dict[Program, Literal[4, 6]] = {"iptables-legacy": 4, "ip6tables-legacy": 6}
_REJECTS = {"firewalld"}
"""Tables that turn away what they do not know by their last rule; their policy is accept."""


class _Base(msgspec.Struct, frozen=True):
    family: str
    table: str
    chain: str
    drops: bool


class OtherRules:
    """`engine.node.foreign_chains.Neighbours` of the network namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._translations: OthersTranslations | None = None

    def translations(self) -> tuple[Translation, ...]:
        """See `Neighbours.translations`."""
        if self._translations is None:
            from cellwall.adapters.other_programs.translations import (
                OthersTranslations,  # here and not above: most publish nothing
            )

            self._translations = OthersTranslations()
        return self._translations.read()

    def observe(self) -> ForeignChains:
        """See `Neighbours.observe`."""
        # Here and not above, as all that only this needs: few attaches come by.
        from cellwall.adapters.iptables.legacy_names import legacy_tables

        bases = _forward_bases()
        programs = [_NFT[where] for base in bases if (where := (base.family, base.table, base.chain)) in _NFT]
        programs += [program for program, version in _LEGACY.items() if "filter" in legacy_tables(version)]
        chains: list[ForwardChain] = []
        unreadable: dict[str, str] = {}
        for program in programs:
            try:
                chains += _chains(program)
            except _Unread as error:
                if program not in _NFT.values():  # else nft lists it
                    unreadable[program] = str(error)
        read = {chain.program for chain in chains}
        others = [
            base
            for base in bases
            if (base.drops or base.table in _REJECTS) and _NFT.get((base.family, base.table, base.chain)) not in read
        ]
        return ForeignChains(tuple(chains), unreadable, tuple(_listed(base) for base in others))

    def edit(self, program: Program, lines: Sequence[str]) -> None:
        """See `Neighbours.edit`."""
        from cellwall.adapters import process

        text = "\n".join(["*filter", *lines, "COMMIT", ""])
        process.run([f"{program}-restore", "--noflush", "--wait"], input=text.encode())


class _Unread(Exception):
    """Why a table could not be read."""


def _forward_bases() -> list[_Base]:
    from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, NFT_MSG_GETCHAIN, nft_message, open_netfilter_socket
    from cellwall.adapters.netlink.nlattr import attributes, text_of
    from cellwall.names import SPARE_TABLE, TABLE

    bases = []
    with open_netfilter_socket() as netfilter:
        for reply in netfilter.dump(nft_message(NFT_MSG_GETCHAIN, _UNSPEC, b""), "read the chains of others"):
            family = _FAMILIES.get(reply.body[0], "")
            found = attributes(reply.body, HEADER_SIZE)
            table = text_of(found[_TABLE])
            if not family or table in (TABLE, SPARE_TABLE) or _HOOK not in found:
                continue
            if int.from_bytes(attributes(found[_HOOK])[1], "big") == _FORWARD:
                policy = int.from_bytes(found.get(_POLICY, b"\1"), "big")
                bases.append(_Base(family, table, text_of(found[_NAME]), policy == _DROP))
    return bases


def _chains(program: Program) -> list[ForwardChain]:
    """FORWARD, and DOCKER-USER where there is one, also one that nothing leads to: rules of ours may be left in it."""
    forward = _chain(program, "FORWARD")
    try:
        return [forward, _chain(program, "DOCKER-USER")]
    except _Unread:
        return [forward]


def _chain(program: Program, name: str) -> ForwardChain:
    from cellwall.adapters import process
    from cellwall.errors import CellwallError

    try:
        said = process.run([program, "--wait", "-S", name]).text.splitlines()
    except CellwallError as error:
        raise _Unread(str(error)) from error
    policy = next((line.split()[2] for line in said if line.startswith(f"-P {name} ")), "")
    head = f"-A {name} "
    return ForwardChain(program, name, policy, tuple(line[len(head) :] for line in said if line.startswith(head)))


def _listed(base: _Base) -> NftChain:
    from cellwall.adapters import process
    from cellwall.adapters.other_programs.nft_listing import Listing, read_chain
    from cellwall.errors import CellwallError

    try:
        out = process.run(["nft", "-j", "list", "table", base.family, base.table]).stdout
        listing: Listing = msgspec.json.decode(out)["nftables"]
    except (CellwallError, msgspec.DecodeError):
        # Gone meanwhile, or what this nft cannot tell: nothing is known of it.
        return NftChain(base.family, base.table, base.chain, drops=False)
    return read_chain(listing, base.family, base.table, base.chain)
