"""The CNI plugin. Importing any of its modules loads msgspec here first, at its cheapest.

It looks in typing_extensions for names that typing has in every Python we support: 10 ms, with inspect, ast and dis. A
None entry makes an import fail as if the module were not installed. The plugin is a new process for every container,
so this is a fifth of what it may take.
"""

import sys

_SPARED = "typing_extensions"
_absent = _SPARED not in sys.modules
if _absent:
    sys.modules[_SPARED] = None  # type: ignore[assignment]
try:
    import msgspec  # noqa: F401
finally:
    if _absent:
        del sys.modules[_SPARED]
