"""Words that do not belong into a product: paths of one machine, references to somebody's paperwork.

In every file of the repository, and in the message of every commit that leads to it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = re.compile(
    r"(?<![\w.}])/(work|root|home/\w+)/|[./]pyenv\b|\.library\b"  # where one machine keeps things
    r"|\bshared/|\brubric\b|\bissue #?\d|(?<![\w(&/])#\d+\b|\b(this|my) session\b",  # what only its authors can read
    re.IGNORECASE,
)
ALLOWED = {"tests/lint/words.py", "tests/lint/test_words.py"}


def findings() -> Iterator[str]:
    """One line each, the place first."""
    for place, number, line in (*_files(), *_messages()):
        if FORBIDDEN.search(line):
            yield f"{place}:{number}: {line.strip()}"


def _files() -> Iterator[tuple[str, int, str]]:
    for name in _git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        path = ROOT / name
        if name not in ALLOWED and path.is_file():
            yield from ((name, *row) for row in enumerate(path.read_text(errors="replace").splitlines(), 1))


def _messages() -> Iterator[tuple[str, int, str]]:
    for commit in _git("log", "--format=%h%n%B%x00").split("\0"):
        name, _, message = commit.strip().partition("\n")
        yield from ((f"commit {name}", *row) for row in enumerate(message.splitlines(), 1))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()


def main() -> int:
    """Exit status 1 and one line a finding."""
    if not (ROOT / ".git").exists():
        print("no checkout: nothing says which files are the product's")
        return 0
    found = list(findings())
    print("\n".join(found) or "no forbidden words")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
