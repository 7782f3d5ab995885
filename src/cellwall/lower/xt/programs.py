"""Classic BPF for the match `bpf`: what iptables has no match for, as constants of the wall.

linux/bpf_common.h, linux/filter.h: a load relative to SKF_LL_OFF reads the frame's header, one at SKF_AD_OFF +
SKF_AD_MARK the packet's mark, any other the packet from its IP header on. A packet matches where the program ends with
anything but 0.
"""

from cellwall.compile.wall import Scene
from cellwall.model.versions import BLOCK, END_BLOCK

Step = tuple[int, int, int, int]
"""Code, how many steps a jump skips where its condition holds and where it does not, value."""
Words = tuple[str, ...]

LOAD_WORD, LOAD_HALF = 0x20, 0x28
_TO_X, _RETURN, _ADD, _SUBTRACT_X, _AND, _SHIFT_RIGHT = 0x07, 0x06, 0x04, 0x1C, 0x54, 0x74
_JUMP_EQUAL, _JUMP_EQUAL_X, _JUMP_GREATER_X, _JUMP_FROM, _JUMP_BIT = 0x15, 0x1D, 0x2D, 0x35, 0x45
_LINK_HEADER, _MARK = 0xFFE00000, 0xFFFFF000 + 20
_SOURCE_MAC = _LINK_HEADER + 6
_MATCH, _NO_MATCH = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)

_READ_MARK: Step = (LOAD_WORD, 0, 0, _MARK)
_KEEP: Step = (_TO_X, 0, 0, 0)
_LOW_HALF, _HIGH_HALF = (_READ_MARK, (_AND, 0, 0, 0xFFFF)), (_READ_MARK, (_SHIFT_RIGHT, 0, 0, 16))
_DEFAULT_MAC = 0x0A58  # `model.network.default_mac`


def _match(*steps: Step) -> Words:
    return ("-m", "bpf", "--bytecode", f"{len(steps)}," + ",".join(" ".join(map(str, step)) for step in steps))


_VERSION = END_BLOCK * BLOCK >> 16
"""The bit of the upper half of a version that every one has; what is below it counts round and round."""
SECOND_IS_FORMER = _match(
    *_HIGH_HALF,
    _KEEP,
    *_LOW_HALF,
    (_JUMP_BIT, 0, 3, _VERSION),
    (_SUBTRACT_X, 0, 0, 0),
    (_AND, 0, 0, _VERSION - 1),
    (_JUMP_FROM, 0, 1, _VERSION // 2),
    _MATCH,
    _NO_MATCH,
)
"""Of two upper halves of versions the one in the mark's lower half was given out before the other, or is of none: less
than half way round from it to the other."""
DIFFERENT = _match(*_HIGH_HALF, _KEEP, *_LOW_HALF, (_JUMP_EQUAL_X, 1, 0, 0), _MATCH, _NO_MATCH)
"""The halves of the mark are not the same."""
FIRST_IS_LESS = _match(*_HIGH_HALF, _KEEP, *_LOW_HALF, (_JUMP_GREATER_X, 0, 1, 0), _MATCH, _NO_MATCH)
"""The upper half of the mark is less than the lower one."""


def is_source_mac(load: int, offset: int) -> Words:
    """The mark is a part of the frame's source address, from its byte `offset` on."""
    return _match(_READ_MARK, _KEEP, (load, 0, 0, _SOURCE_MAC + offset), (_JUMP_EQUAL_X, 0, 1, 0), _MATCH, _NO_MATCH)


def is_usual_source(scene: Scene, version: int, *, negate: bool) -> Words:
    """The source's MAC is the one that an endpoint of that source address has unless it asks for another: 0a:58 and its
    IPv4 address, of which the host part of the IPv6 address is the offset in the subnet."""
    same: list[tuple[Step, int]] = [((LOAD_HALF, 0, 0, _SOURCE_MAC), _DEFAULT_MAC)]
    shift, last = 0, 12
    if version == 6:
        words = [int.from_bytes(scene.subnet6.network_address.packed[at : at + 4], "big") for at in range(0, 16, 4)]
        same += [((LOAD_WORD, 0, 0, 8 + 4 * at), word) for at, word in enumerate(words[:3])]
        shift, last = (words[3] - int(scene.subnet4.network_address)) & 0xFFFFFFFF, 20
    own: list[Step] = [
        (LOAD_WORD, 0, 0, _SOURCE_MAC + 2),
        (_ADD, 0, 0, shift),
        _KEEP,
        (LOAD_WORD, 0, 0, last),
        (_JUMP_EQUAL_X, 1, 0, 0),
    ]
    steps: list[Step] = []
    for at, (load, value) in enumerate(same):
        to_the_end = 2 * (len(same) - at - 1) + len(own)
        steps += [load, (_JUMP_EQUAL, 0, to_the_end, value)]
    another, usual = (_MATCH, _NO_MATCH) if negate else (_NO_MATCH, _MATCH)
    return _match(*steps, *own, another, usual)
