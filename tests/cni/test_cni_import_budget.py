"""A runtime starts a process per call: what an ADD imports is most of what it costs."""

import marshal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import cellwall

SOURCE = Path(cellwall.__file__ or "").parent

# each of these costs 1 to 15 ms and none is needed to attach a container
FORBIDDEN = {
    "argparse", "ast", "asyncio", "compileall", "concurrent.futures", "csv", "ctypes", "dataclasses", "decimal",
    "difflib", "dis", "email", "enum", "hashlib", "http", "inspect", "json", "logging", "msgspec.inspect",
    "multiprocessing", "pyroute2", "random", "re", "scapy", "selectors", "shutil", "site", "socket", "subprocess",
    "tempfile", "textwrap", "threading", "tomllib", "traceback", "typing_extensions", "unittest", "urllib", "uuid",
    "xml",
}  # fmt: skip

NEWER_THAN_3_11 = {"ctypes"}  # os.setns is, and ctypes stands in for it
NEWER_THAN_3_12 = {"enum", "re"}  # typing does without them

PLUGIN_BUDGET = 85
ADD_BUDGET = 174  # a module without much in it costs 0.08 ms, and eleven are a folder each
THIN_BYTES = 13_000 if sys.version_info >= (3, 12) else 14_400  # 3.11 writes a tenth more for the same
BEFORE_3_13 = 15  # more: what typing and re import, and ctypes


def imported(statement: str) -> set[str]:
    """The modules in a fresh interpreter, started as the launcher starts it, after a statement."""
    directories = [str(Path(module.__file__ or "").parents[1]) for module in (cellwall, msgspec)]
    program = f"import sys; sys.path += {directories!r}; {statement}; print(*sys.modules)"
    argv = [sys.executable, "-IS", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


@pytest.mark.parametrize(("statement", "budget"), [
    ("import cellwall.lean, cellwall.cni.main", PLUGIN_BUDGET),
    ("import cellwall.lean, cellwall.cni.main, cellwall.api", ADD_BUDGET),
])  # fmt: skip
def test_an_add_imports_nothing_that_it_does_not_need(statement: str, budget: int) -> None:
    modules = imported(statement)
    allowed = NEWER_THAN_3_11 if sys.version_info < (3, 12) else set[str]()
    allowed |= NEWER_THAN_3_12 if sys.version_info < (3, 13) else set()
    assert not modules & (FORBIDDEN - allowed)
    assert "cellwall.cni.commands" in modules
    assert len(modules) <= budget + (BEFORE_3_13 if sys.version_info < (3, 13) else 0), sorted(modules)


def test_a_call_through_the_daemon_imports_a_socket_and_one_file() -> None:
    """Of ours, three: two of these are a line each."""
    more = imported("import cellwall.cni.thin") - imported("pass")
    assert more - {"_socket", "time"} == {"cellwall", "cellwall.cni", "cellwall.cni.thin"}
    code = [len(marshal.dumps(compile((SOURCE / name).read_text(), name, "exec")))  # wherever the sources are
            for name in ("__init__.py", "cni/__init__.py", "cni/thin.py")]  # fmt: skip
    assert sum(code) < THIN_BYTES, code


def test_the_plugin_alone_loads_no_engine() -> None:
    """A call that its text refuses, and VERSION, stop before the larger half of the imports."""
    modules = imported("import cellwall.lean, cellwall.cni.main")
    assert not {name for name in modules if name.startswith(("cellwall.engine", "cellwall.adapters", "sqlite3"))}
