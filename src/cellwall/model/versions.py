"""Policy versions: by what policy a flow was judged, as its mark says.

A version is a number of 31 bits, never 0, without the bit of the packet mark that is the node's, so that a packet's
mark can carry both. Versions come in blocks. An endpoint has a block to itself from its attach on, and counts through
it: the upper bits of a mark say whose a flow is, however often the policy changed since, and the whole of it by which
policy it was judged.

What its rules know a tenant by is a number of the same blocks: what the versions of its first endpoint share. The
tenant's other endpoints have that number, too, and while any of them is there nobody gets the block. Pure.
"""

import msgspec

BLOCK = 256
"""Versions of one block; half of them where the node's bit is one of the lower eight."""

FIRST_BLOCK, END_BLOCK = (1 << 29) // BLOCK, (1 << 30) // BLOCK
"""The blocks that are given out, over and over. High: multi-homing and service meshes mark flows with small numbers of
their own."""

STEM = 0xFFFFFFFF & ~(BLOCK - 1)
"""The mask of what all versions of a block share."""


TENANT_BIT = 1
"""Set in the label of every flow of a tenant."""
TENANT_BITS = 15 << 29 | TENANT_BIT
"""One of them is, too, where the label is the number alone, as it used to be: a version has one of two bits, wherever
the node's bit is, and what was numbered before there were such numbers the next."""


class Blocks(msgspec.Struct, frozen=True, array_like=True):
    """What is left to give out: `next`, and what follows it before `end`, where `mark` is the node's bit; another bit
    makes other versions of the same blocks. `shared`: versions whose blocks more than one endpoint has, of a program
    that knew no blocks."""

    next: int
    end: int
    mark: int
    shared: tuple[int, ...] = ()


def policy_version(number: int, mark: int) -> int:
    """The policy version of that number: strictly increasing, and without the node's bit (`mark`)."""
    return (number & ~(mark - 1)) << 1 | number & (mark - 1)


def first_version(block: int, mark: int) -> int:
    """The lowest version of a block, which has only zeros below its stem."""
    return policy_version(block * BLOCK, mark)


def every_version(mark: int) -> tuple[int, int]:
    """What the mark of every flow has that carries a version, and the mask of it."""
    lowest = first_version(FIRST_BLOCK, mark)
    return lowest, 0xFFFFFFFF & ~(lowest - 1)


def tenant_label(number: int) -> int:
    """What the label of a flow says of its tenant. `nft list` writes a label by its lowest bit, so that what was saved
    by it says the same of everybody: what is loaded again has all tenants share one bound, and none without any."""
    return number << 1 | TENANT_BIT


def block_of(version: int, mark: int) -> int:
    """The block that a version is of."""
    return ((version >> 1) & ~(mark - 1) | version & (mark - 1)) // BLOCK


def following(version: int, mark: int) -> int | None:
    """The next version of the same block; None where that was the last, or where the block is of another node's bit."""
    after = version + 1
    if after & mark:
        after += mark & (BLOCK - 1)
    return after if after & STEM == version & STEM and not after & mark else None


def stems(versions: tuple[int, ...]) -> tuple[int, ...]:
    """Whose flows carry any of these versions, or another of their blocks; each once."""
    return tuple(dict.fromkeys(version & STEM for version in versions))
