"""Which tables of iptables-legacy there are in a network namespace.

Asked before anything else is: a program of iptables-legacy that looks at a table nobody made makes it, which loads its
modules and registers its hooks.
"""

from typing import Literal

_FILES = {4: "ip_tables_names", 6: "ip6_tables_names"}


def legacy_tables(version: Literal[4, 6]) -> list[str]:
    """Their names, of the calling thread's namespace; none where the kernel has no such tables."""
    try:
        with open(f"/proc/thread-self/net/{_FILES[version]}") as names:
            return names.read().split()
    except OSError:  # the module is not there
        return []
