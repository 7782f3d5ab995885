"""Whose turn it is where several wait."""

from collections.abc import Sequence

from cellwall.daemon.turns.lines import ROOT, Lines, Whose

FIRST, SECOND = 50, 60


def waiting(*asked: tuple[Whose, str]) -> Lines[str]:
    lines: Lines[str] = Lines()
    for whose, names in asked:
        for name in names:
            lines.append(whose, name)
    return lines


def turns(lines: Lines[str]) -> str:
    taken = []
    while job := lines.take():
        taken += job
    return "".join(taken)


def test_a_group_has_one_turn_under_however_many_uids_it_asks() -> None:
    ids = [(Whose(FIRST, 100000 + number), letter) for number, letter in enumerate("abcdef")]
    assert turns(waiting(*ids, (Whose(SECOND, 1001), "xyz"))) == "axbyczdef"


def test_users_of_a_group_have_its_turns_one_after_the_other() -> None:
    lines = waiting((Whose(FIRST, 1000), "abcd"), (Whose(FIRST, 1001), "xy"), (Whose(SECOND, 1002), "123"))
    assert turns(lines) == "a1x2b3ycd"


def test_root_is_every_other_time_whatever_groups_there_are() -> None:
    lines = waiting((Whose(FIRST, 1000), "ab"), (Whose(SECOND, 1001), "xy"), (Whose(0, 1002), "1"), (ROOT, "PQRSTU"))
    assert turns(lines) == "PaQxR1SbTyU"


def test_what_is_taken_together_is_one_users() -> None:
    def also(_: Sequence[str], __: str) -> bool:
        return True

    lines = waiting((Whose(FIRST, 1000), "ab"), (Whose(FIRST, 1001), "c"))
    assert [lines.take(also), lines.take(also), lines.take(also)] == [["a", "b"], ["c"], []]


def test_who_goes_leaves_no_turn_behind() -> None:
    first, second = Whose(FIRST, 1000), Whose(SECOND, 1001)
    lines = waiting((first, "a"), (second, "xy"))
    for whose, name in ((first, "a"), (first, "a"), (second, "x"), (Whose(70, 1), "z")):
        lines.remove(whose, name)
    assert (len(lines), list(lines), turns(lines)) == (1, ["y"], "y")
