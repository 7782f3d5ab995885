"""The CNI plugin is a process per container: configuration may not drag in what it does not use."""

import subprocess
import sys

DEAR = ("tomllib", "difflib", "argparse", "logging", "subprocess", "dataclasses", "json")


def test_loading_without_a_file_imports_nothing_dear() -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        "from cellwall.config import load_settings, paths_for\n"
        "load_settings(paths_for('/nonexistent'), environ={})\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(DEAR) & set(done.stdout.split())
