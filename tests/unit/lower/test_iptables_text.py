"""The text that goes to iptables-restore: what is ours in it, and that what is others' stays."""

import pytest

from cellwall.errors import InvalidSpec
from cellwall.lower.xt.tables import (
    XtChain,
    XtRule,
    XtTable,
    foreign_jumps,
    others,
    own_lines,
    render_changes,
    render_removal,
    render_table,
)


@pytest.mark.parametrize("word", ["a b", 'x"', "x;y", "x\ny", "$(x)", "6,x 0 0 0"])
def test_a_word_that_needs_quoting_is_refused(word: str) -> None:
    table = XtTable("ipv4", "filter", (XtChain("B9-OWN", (XtRule(("-i", word), ("-j", "DROP")),)),))
    with pytest.raises(InvalidSpec, match="safely"):
        render_table(table)


TABLE = XtTable("ipv4", "filter", (XtChain("B9-INPUT", (XtRule((), ("-j", "DROP")),)),), ("INPUT",))
SAVED = """*filter
:INPUT ACCEPT [0:0]
:OTHERS - [0:0]
:B9-INPUT - [0:0]
:B9-STAMP-O - [0:0]
-A INPUT {first}-j {then}
-A INPUT -j {second}
-A B9-INPUT -j B9-STAMP-O
COMMIT
"""


@pytest.mark.parametrize(
    ("first", "then", "second", "jumps"),
    [
        ("", "B9-INPUT", "OTHERS", []),
        ("", "OTHERS", "B9-INPUT", ["-D INPUT -j B9-INPUT", "-I INPUT -j B9-INPUT"]),
        ("", "OTHERS", "ACCEPT", ["-I INPUT -j B9-INPUT"]),
        ("", "B9-INPUT", "B9-INPUT", ["-D INPUT -j B9-INPUT"] * 2 + ["-I INPUT -j B9-INPUT"]),
        (
            "-i eth9 ",
            "B9-INPUT",
            "B9-STAMP-O",
            ["-I INPUT -j B9-INPUT"],
        ),
    ],
)
def test_a_jump_is_first_and_once(first: str, then: str, second: str, jumps: list[str]) -> None:
    text = render_table(TABLE, SAVED.format(first=first, then=then, second=second))
    assert [line for line in text.splitlines() if line.startswith(("-D", "-I"))] == jumps


def test_a_former_chain_goes_in_the_same_commit_and_anothers_stays() -> None:
    lines = render_table(TABLE, SAVED.format(first="", then="OTHERS", second="B9-INPUT")).splitlines()
    assert lines[:3] == ["*filter", ":B9-INPUT - [0:0]", ":B9-STAMP-O - [0:0]"]
    assert lines[-2:] == ["-X B9-STAMP-O", "COMMIT"]
    assert not [line for line in lines if "OTHERS" in line]


def test_a_chain_that_only_begins_like_ours_is_anothers() -> None:
    saved = SAVED.replace("OTHERS", "B9-USER").format(first="", then="B9-USER", second="B9-INPUT")
    assert "B9-USER" not in render_table(TABLE, saved)
    assert "B9-USER" not in render_removal(saved, "ipv4")
    assert not [line for line in own_lines(saved) if "B9-USER" in line]
    assert others(saved) == 1


def test_a_removal_names_what_is_ours_and_nothing_else() -> None:
    saved = SAVED.format(first="", then="OTHERS", second="B9-INPUT") + "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
    assert render_removal(saved, "ipv4").splitlines() == [
        "*filter",
        ":B9-INPUT - [0:0]",
        ":B9-STAMP-O - [0:0]",
        "-D INPUT -j B9-INPUT",
        "-X B9-INPUT",
        "-X B9-STAMP-O",
        "COMMIT",
    ]
    assert render_removal("*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n", "ipv4") == ""


def test_of_tables_that_go_mangle_is_the_first() -> None:
    """It sends to sandboxes only what `filter` has judged: behind that it would cut their flows."""
    saved = "".join(
        f"*{name}\n:PREROUTING ACCEPT [0:0]\n:B9-PREROUTING - [0:0]\n-A PREROUTING -j B9-PREROUTING\nCOMMIT\n"
        for name in ("filter", "nat", "raw", "mangle", "security")
    )
    order = [line for line in render_removal(saved, "ipv4").splitlines() if line.startswith("*")]
    assert order == ["*mangle", "*filter", "*nat", "*raw", "*security"]


THEIRS = """*filter
:INPUT ACCEPT [0:0]
:B9-INPUT - [0:0]
:B9-STAMP-O - [0:0]
:MINE - [0:0]
-A INPUT -j B9-INPUT
-A INPUT -p tcp -m tcp --dport 81 -m comment --comment "see -j B9-INPUT" -j ACCEPT
-A INPUT -m comment --comment "a \\" quote -g B9-STAMP-O" -j DROP
-A INPUT -i eth9 -j B9-INPUT
-A MINE -m comment --comment "so -j ACCEPT" -g B9-STAMP-O
COMMIT
"""


def test_a_laying_leaves_every_rule_of_others_and_the_former_chain_that_one_leads_to() -> None:
    lines = render_table(TABLE, THEIRS).splitlines()
    assert not [line for line in lines if line.startswith(("-D", "-I", "-X"))]
    assert ":B9-STAMP-O - [0:0]" in lines
    assert own_lines(THEIRS) == ("filter -A INPUT -j B9-INPUT at 1",)


def test_a_removal_takes_of_others_what_leads_to_ours_and_no_rule_that_only_speaks_of_it() -> None:
    led = ["INPUT -i eth9 -j B9-INPUT", 'MINE -m comment --comment "so -j ACCEPT" -g B9-STAMP-O']
    removed = [line for line in render_removal(THEIRS, "ipv4").splitlines() if line.startswith("-D")]
    assert removed == ["-D INPUT -j B9-INPUT", *(f"-D {line}" for line in led)]
    assert foreign_jumps(THEIRS) == tuple(f"filter -A {line}" for line in led)


def test_rules_of_others_are_counted_whatever_they_say_of_ours() -> None:
    assert others(THEIRS) == 4
    assert others("*filter\n-A B9-INPUT -j DROP\n-A INPUT -j B9-INPUT\nCOMMIT\n") == 0


def test_what_is_ours_in_a_save_is_told_with_the_place_of_its_jumps() -> None:
    before = own_lines(SAVED.format(first="", then="B9-INPUT", second="OTHERS"))
    after = own_lines(SAVED.format(first="", then="OTHERS", second="B9-INPUT"))
    assert before == ("filter -A INPUT -j B9-INPUT at 1", "filter -A B9-INPUT -j B9-STAMP-O")
    assert after[0] == "filter -A INPUT -j B9-INPUT at 2"


def test_published_ports_change_in_one_commit() -> None:
    rule = XtRule(("-p", "tcp"), ("-j", "DNAT", "--to-destination", "1.2.3.4:5"))
    assert render_changes("ipv4", [rule], [], "B9-DNAT") == (
        "*nat\n-A B9-DNAT -p tcp -j DNAT --to-destination 1.2.3.4:5\nCOMMIT\n"
    )
    assert render_changes("ipv4", [], [], "B9-DNAT") == ""
