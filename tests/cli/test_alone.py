"""What a command loads is what it uses: tests fork commands from a process that has loaded everything (see `forking`),
where nobody misses an import."""

import subprocess
import sys

import pytest
from nodecommand import SOURCE

from cellwall.cli.parser import COMMANDS

HELP_OF_EACH = """
import sys
from cellwall.cli import parser
from cellwall.cli.main import main
parser.COMMANDS = sys.argv[1:]
(commands,) = parser.build_parser()._subparsers._group_actions
for name in commands.choices:
    try:
        status = main([name, "--help"])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 0, name
    print("ended", name)
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_each_commands_module_says_its_help_in_an_interpreter_that_loaded_no_other(module: str) -> None:
    words = [sys.executable, "-c", HELP_OF_EACH, module]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SOURCE)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == done.stdout.count("\nended ") > 0
