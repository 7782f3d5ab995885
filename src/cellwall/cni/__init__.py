"""The CNI plugin. Importing any of its modules loads msgspec and hashlib here first, at their cheapest.

Both import something only to see whether it offers more than what they fall back to: msgspec looks in typing_extensions
for names that typing has in every Python we support (10 ms, with inspect, ast and dis), hashlib for OpenSSL's digests
beside the interpreter's own (3 ms). A None entry makes an import fail as if the module were not installed. The plugin
is a new process for every container, so these are a quarter of what it may take.
"""

import sys

_SPARED = tuple(name for name in ("typing_extensions", "_hashlib") if name not in sys.modules)
sys.modules.update(dict.fromkeys(_SPARED))  # type: ignore[arg-type]
try:
    import hashlib  # noqa: F401

    import msgspec  # noqa: F401
finally:
    for _name in _SPARED:
        del sys.modules[_name]
