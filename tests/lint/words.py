"""Words that do not belong into a product: paths of one machine, of a workplace, references to its paperwork."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = re.compile(
    r"/work/|shared/|\brubric\b|\bissue #?\d|\bthis session\b|\bmy session\b|\.library\b|\.pyenv\b|/tmp/brief",
    re.IGNORECASE,
)
ALLOWED = {"tests/lint/words.py"}


def main() -> int:
    """Exit status 1 and one line a finding."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    findings = []
    for name in listed.stdout.decode().splitlines():
        path = ROOT / name
        if name in ALLOWED or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FORBIDDEN.search(line):
                findings.append(f"{name}:{number}: {line.strip()}")
    print("\n".join(findings) or "no forbidden words")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
