"""Whether entries of our ipsets may have changed: sets make no event, so somebody has to ask.

Owns: the one cheap question, how many entries each set has: a dump of headers, no program. Entries that were exchanged
for as many others are not noticed; whoever relies on this compares the entries themselves now and then.
"""

from collections.abc import Mapping

from cellwall.adapters.iptables.ipset import all_headers
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.netlink.nlattr import attributes
from cellwall.adapters.netlink.sockets import Closing
from cellwall.adapters.news.alarms import Alarm
from cellwall.lower.xt.sets import counting_sets, is_own_set, node_sets, noting_sets

_DATA, _ELEMENTS = 7, 24  # IPSET_ATTR_*
_OF_NODE = frozenset(one.name for one in node_sets())
_FILLED_BY_RULES = frozenset(one.name for one in (*counting_sets(), *noting_sets()))


class SetSizes(Closing):
    """The sets of the network namespace that the creating thread is in, as of the last question."""

    def __init__(self) -> None:
        self._netfilter = open_netfilter_socket()
        self._last = self._read()

    def close(self) -> None:
        self._netfilter.close()

    def changed(self) -> Alarm:
        """How bad what changed since the last question can be, as far as sizes tell: a set of the node's own is the
        wall's, the others are endpoints', and each of our own attaches changes them."""
        before, self._last = self._last, self._read()
        if before == self._last:
            return Alarm.NOTHING
        differing = {name for name, _ in before.items() ^ self._last.items()}
        return Alarm.DAMAGED if differing & _OF_NODE else Alarm.CHANGED

    def _read(self) -> Mapping[str, bytes]:
        headers = all_headers(self._netfilter)
        ours = ((name, one) for name, one in headers if is_own_set(name) and name not in _FILLED_BY_RULES)
        return {name: attributes(one.get(_DATA, b""))[_ELEMENTS] for name, one in ours}
