"""What counts as a step of an operation that is killed or fails at each: a part of an adapter must not slip through."""

from contextlib import closing
from pathlib import Path

from cellwall.adapters.record.store import Store
from engine.steps import Stepped, Steps


class Noted(Steps):
    """Has nothing happen, and notes what would have."""

    def __init__(self) -> None:
        super().__init__(0)
        self.seen: list[object] = []

    def before(self, kind: str, *, reads: bool) -> None:
        self.seen.append((kind, reads))

    def after(self) -> None:
        self.seen.append("changed")


def test_what_is_asked_of_a_part_of_the_journal_is_a_step_in_its_transaction(tmp_path: Path) -> None:
    steps = Noted()
    with closing(Store(tmp_path, "boot")) as store:
        journal = Stepped(store, steps)
        with journal.transaction():
            journal.policies.write("acme", None)
        journal.draining.addresses()
    assert steps.seen == [
        ("Store.transaction", False),
        ("PoliciesInForce.write", False),
        "changed",
        ("Draining.addresses", True),
    ]
