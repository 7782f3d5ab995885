"""What fails because somebody inside a sandbox changed its interface while it was attached.

Whoever is root in a namespace may do what they like with what is put there, at any moment: rename the interface, resize
it, delete it and with it the host end. That is a state of theirs, and no failure of the node's. Pure.
"""

import errno

from cellwall.errors import Conflict, KernelError, NotFound
from cellwall.model.endpoint import Endpoint

_OURS = (errno.ENOMEM, errno.ENOBUFS, errno.EPERM)
"""What the kernel says inside whatever anybody there does: it has no room, or we lack a privilege."""


def refuse_meddled(endpoint: Endpoint, error: KernelError | NotFound, *, inside: bool) -> None:
    """Raise Conflict for what failed `inside` its namespace, or on the node, unless that is the node's to answer for:
    on the node all that they can do is to end the pair."""
    number = errno.ENODEV if isinstance(error, NotFound) else error.errno
    if number not in _OURS if inside else number == errno.ENODEV:
        what = f"{endpoint.key.ifname} was changed while it was attached"
        raise Conflict(f"netns: {endpoint.netns}: {what}: {error}") from error
