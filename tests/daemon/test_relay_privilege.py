"""The proxy's process keeps no privilege, also where it may not become another user."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root
_SHOW = """
import os, sys
from cellwall.daemon.proxy.relay import _without_privilege

class Unreadable:
    def find_spec(self, name, *rest):
        if os.getuid() != 0:
            raise ImportError(f"{name} is below a home that is root's alone, as what pyenv and uv install for root is")

sys.meta_path.insert(0, Unreadable())
_without_privilege()
print(open("/proc/self/status").read())
"""


@pytest.mark.parametrize(("without", "user"), [("", "65534"), ("-setuid,-setgid", "0")])
def test_no_capability_is_left_whether_or_not_it_may_become_nobody(without: str, user: str) -> None:
    under = ["setpriv", f"--bounding-set={without}"] if without else []
    done = subprocess.run([*under, sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert status["Uid"].split() == [user] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh")} == {"0" * 16}
