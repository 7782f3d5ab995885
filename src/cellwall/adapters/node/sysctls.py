"""Kernel settings through /proc/sys.

/proc/sys/net shows the network namespace of the thread that opens a file, so one instance serves whatever namespace
its caller is in. Refuses names that would leave /proc/sys. Interface names may contain dots: give such a setting in
the slashed form (`net/ipv4/conf/eth0.5/forwarding`); a name with a slash is taken as it is, another one has its dots
replaced, as `sysctl` does.
"""

import os

from cellwall.errors import CellwallError, InvalidSpec

_ROOT = "/proc/sys"
_LONGEST = 4096


class ProcSysctls:
    """`engine.contracts.Sysctls`."""

    def read(self, name: str) -> str | None:
        """The present value without its line end, None where the kernel has no such (readable) setting."""
        try:
            descriptor = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(descriptor, _LONGEST).decode(errors="replace").rstrip("\n")
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def write(self, name: str, value: str) -> bool:
        """Set it; False where there is no such setting, it cannot be written, or the kernel refuses the value."""
        try:
            descriptor = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.write(descriptor, value.encode()) == len(value)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def load_module(self, name: str) -> bool:
        """Ask the kernel for a module; False where there is none or it may not be loaded."""
        from cellwall.adapters import process

        try:
            return process.run(["modprobe", name], check=False, timeout=10).returncode == 0
        except CellwallError:
            return False


def _path(name: str) -> str:
    parts = name.split("/") if "/" in name else name.split(".")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InvalidSpec("sysctl", name, "is not the name of a kernel setting")
    return "/".join((_ROOT, *parts))
