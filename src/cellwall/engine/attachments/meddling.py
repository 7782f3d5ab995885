"""What fails because somebody inside a sandbox changed its interface while it was attached.

Whoever is root in a namespace may do what they like with what is put there, at any moment: rename the interface, resize
it, delete it and with it the host end. That is a state of theirs, and no failure of the node's. Pure.
"""

import errno

from cellwall.errors import Conflict, KernelError, NotFound
from cellwall.model.endpoint import Endpoint

_THEIRS = frozenset(
    (
        *(errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESRCH),  # it is gone, or what is put there needs what was
        *(errno.EEXIST, errno.EADDRINUSE, errno.EBUSY),  # something of theirs has its place
        *(errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT),  # too small for IPv6, or a link of another kind
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL),  # down again amid it
        errno.EACCES,  # IPv6 is off (net/ipv6/addrconf.c, addrconf_add_dev)
    )
)
"""What the kernel says of a link, an address or a route that is not as it was made, which is a matter of whose
namespace it is. Whatever else it says, as of descriptors, room, time or privileges, is the node's."""


def refuse_meddled(endpoint: Endpoint, error: KernelError | NotFound, *, inside: bool) -> None:
    """Raise Conflict for what failed `inside` its namespace, or on the node, where they can have caused that: on the
    node all that they can do is to end the pair."""
    number = errno.ENODEV if isinstance(error, NotFound) else error.errno
    possible = _THEIRS if inside else {errno.ENODEV}
    if number in possible:
        what = f"{endpoint.key.ifname} was changed while it was attached"
        raise Conflict(f"netns: {endpoint.netns}: {what}: {error}") from error
