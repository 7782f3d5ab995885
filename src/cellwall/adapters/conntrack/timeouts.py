"""Named timeouts of connection tracking over nfnetlink (linux/netfilter/nfnetlink_cttimeout.h)."""

import errno
from collections.abc import Iterable

from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, timeout_message
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attribute_u8, attributes, nested, text_of
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_REPLACE, Message, Netlink
from cellwall.errors import KernelError
from cellwall.lower.xt.sets import SET_PREFIX
from cellwall.lower.xt.timeouts import TIMEOUT_NAMES, FlowTimeouts

_NEW, _GET, _DELETE = 0, 1, 2
_NAME, _L3PROTO, _L4PROTO, _DATA = 1, 2, 3, 4
_SYN_SENT, _SYN_RECV, _TIME_WAIT, _CLOSE = 1, 2, 7, 8  # CTA_TIMEOUT_TCP_*
_FAMILIES = {4: 2, 6: 10}
_TCP = 6
# No such part of nfnetlink in this kernel.
_NO_SUCH_KIND = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)


def make_timeouts(netfilter: Netlink, rows: Iterable[FlowTimeouts]) -> None:
    """Have them there, with these times. Idempotent."""
    messages = [_new(row) for row in rows]
    if messages:
        netfilter.transact(messages, "make timeouts")


def timeout_names(netfilter: Netlink) -> tuple[str, ...]:
    """Those of ours, by name; none in a kernel without such."""
    try:
        replies = netfilter.dump(timeout_message(_GET, 0, b""), "read timeouts")
    except KernelError as error:
        if error.errno in _NO_SUCH_KIND:
            return ()
        raise
    names = (text_of(attributes(reply.body, HEADER_SIZE)[_NAME]) for reply in replies)
    return tuple(sorted(name for name in names if name in TIMEOUT_NAMES))


def delete_timeouts(netfilter: Netlink, names: Iterable[str]) -> None:
    """Delete these; absence is tolerated, and those that a rule refers to stay."""
    tolerate = (errno.ENOENT, errno.EBUSY)
    messages = [
        timeout_message(_DELETE, 0, attribute_text(_NAME, name), what=f"timeouts {name}", tolerate=tolerate)
        for name in names
    ]
    if messages:
        netfilter.transact(messages, "delete timeouts")


def has_timeouts(netfilter: Netlink) -> bool:
    """Whether the kernel has such objects."""
    _, refusals = netfilter.exchange(
        [timeout_message(_DELETE, 0, attribute_text(_NAME, f"{SET_PREFIX}none"))], 0, "try"
    )
    return all(refusal.errno == errno.ENOENT for refusal in refusals)


def _new(row: FlowTimeouts) -> Message:
    half_open = ((_SYN_SENT, row.half_open), (_SYN_RECV, row.half_open)) if row.half_open else ()
    seconds = (*half_open, (_TIME_WAIT, row.time_wait), (_CLOSE, row.close))
    body = (
        attribute_text(_NAME, row.name)
        + attribute(_L3PROTO, _FAMILIES[row.version].to_bytes(2, "big"))
        + attribute_u8(_L4PROTO, _TCP)
        + nested(_DATA, *(attribute(kind, value.to_bytes(4, "big")) for kind, value in seconds))
    )
    return timeout_message(_NEW, NLM_F_CREATE | NLM_F_REPLACE, body, what=f"timeouts {row.name}")
