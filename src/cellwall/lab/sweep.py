"""`python -m cellwall.lab.sweep` removes what killed labs left behind, and says what it removed.

Refuses to touch a lab whose process lives; `cellwall.lab.records` has the rules. It is a module of its own
because `cellwall.lab` imports those, and a module that is already imported cannot be run cleanly by its
name.
"""

import sys

from cellwall.errors import CellwallError
from cellwall.lab import records


def main() -> int:
    """Sweep; the exit status is 1 where something could not be removed."""
    try:
        swept = records.sweep()
    except CellwallError as error:
        sys.stderr.write(f"sweep: {error}\n")
        return 1
    for prefix in swept:
        sys.stdout.write(f"removed {prefix}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
