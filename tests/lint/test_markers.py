"""Which tests are left out, and which go first, their markers say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_a_checkout_may_be_called_like_a_marker(tmp_path: Path) -> None:
    place = tmp_path / "slow" / "full"
    place.mkdir(parents=True)
    shutil.copy(TESTS / "conftest.py", place)
    (place / "test_one.py").write_text("def test_one() -> None:\n    pass\n")
    argv = [
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
        f"--rootdir={place}",
        "--quick",
        str(place),
    ]
    environ = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([sys.executable, *argv], env=environ, cwd=place, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
