"""The filter of unfinished checksums at our bridge: put there, recognised, found missing.

Owns: the ingress filter of the bridge's own interface. It goes with the bridge, and no flush of rules touches it.
What it lets pass is decided in `lower.bpf.checksums`. It is ours, and whole, when its name has the digest of the
program that this version would load, and the kernel's digest of the one that is loaded: the kernel's layout, on which
the program depends as well, is the same until the next boot, which no bridge outlives.

Refuses: to stand in for a kernel that cannot load it. That is told, and the wall stands without.
"""

import os
from collections.abc import Iterator

import msgspec

from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32, text_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message, Netlink
from cellwall.adapters.tc.traffic_control import (
    BPF_FD,
    BPF_NAME,
    BPF_TAG,
    INGRESS,
    RTM_NEWTFILTER,
    classifier,
    classifiers,
    classifying,
)
from cellwall.digests import blake2s
from cellwall.errors import CellwallError, KernelError
from cellwall.lower.bpf.checksums import LICENSE, Field, Layout, checksum_filter

_PREFERENCE = 1  # before `adapters.tc.latch`


class Found(msgspec.Struct, frozen=True):
    """A filter that stands: its name and the digest of its program."""

    name: str
    tag: str


def ensure_filter(route: Netlink, index: int) -> str:
    """Have the filter stand at a bridge; "" when it does, else why it cannot. Idempotent; a program of another version
    is replaced without a gap."""
    if stands(route, index):
        return ""
    try:
        fd, name = _load()
    except (CellwallError, OSError) as error:
        return str(error)
    try:
        route.transact([classifying(index), _filter(index, fd, name)], "filter unfinished checksums")
    except KernelError as error:
        return str(error)
    finally:
        os.close(fd)
    return ""


def try_filter() -> str:
    """Why the kernel does not take the program, "" where it does; nothing is left of the attempt."""
    try:
        fd, _ = _load()
    except (CellwallError, OSError) as error:
        return str(error)
    os.close(fd)
    return ""


def stands(route: Netlink, index: int) -> bool:
    """Whether the filter of this version stands at a bridge and is whole."""
    return any(found.name == _name(found.tag) for found in _read(route, index))


def filter_differences(route: Netlink, index: int) -> tuple[str, ...]:
    """What `ensure_filter` would change, a few words each."""
    return () if stands(route, index) else ("does not filter unfinished checksums",)


def _load() -> tuple[int, str]:
    # Here and not above: no attach loads it, and ctypes costs a CNI call 2 ms.
    from cellwall.adapters.tc.bpf import load_packet_filter
    from cellwall.adapters.tc.btf import field_places

    places = field_places("sk_buff")
    layout = Layout(*(Field(*places[name]) for name in Layout.__struct_fields__))
    program = load_packet_filter(checksum_filter(layout), name="cellwall_sums", license=LICENSE)
    return program.fd, _name(program.tag)


def _name(tag: str) -> str:
    """The name of a filter whose program has this digest. What the program is made from is digested too, for some
    layout: another version of it is another name."""
    shape = checksum_filter(Layout(Field(5, 2), Field(64), Field(80), Field(96)))
    return f"cellwall-checksums-{blake2s(shape, digest_size=6).hexdigest()}-{tag}"


def _filter(index: int, fd: int, name: str) -> Message:
    body = classifier(index, INGRESS, _PREFERENCE, attribute_u32(BPF_FD, fd), attribute_text(BPF_NAME, name))
    return Message(RTM_NEWTFILTER, NLM_F_CREATE, body, "filter")


def _read(route: Netlink, index: int) -> Iterator[Found]:
    for options in classifiers(route, index, INGRESS, _PREFERENCE, "read the filters of the bridge"):
        if BPF_TAG in options:
            yield Found(text_of(options.get(BPF_NAME, b"")), options[BPF_TAG].hex())
