"""What users may name things: refused, never escaped, because a name can reach a rule, a path or a command line."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.identifiers import parse_container_id, parse_label, parse_link_name, parse_tenant

Parse = Callable[[str, str], str]
EVERY = pytest.mark.parametrize(
    ("parse", "longest"), [(parse_container_id, 253), (parse_tenant, 128), (parse_link_name, 15), (parse_label, 32)]
)
HOSTILE = (
    "",
    " ",
    "a b",
    "a\nb",
    "a\n",
    "a\0",
    'a"b',
    "a'b",
    "a;b",
    "a*",
    "a$(id)",
    "a`id`",
    "a|b",
    "a{b",
    "a#b",
    "a\\b",
    "ä",
    "١",  # a digit, but not one of ASCII's
    "-a",
    "a,b",
)


@EVERY
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_would_need_quoting_is_refused(parse: Parse, longest: int, text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse(text, "field")
    assert (refused.value.field, refused.value.value) == ("field", text)
    assert str(refused.value).isascii()
    assert "\n" not in str(refused.value)


@EVERY
def test_length_is_bounded_and_the_longest_is_kept_whole(parse: Parse, longest: int) -> None:
    assert parse("a" * longest, "field") == "a" * longest
    with pytest.raises(InvalidSpec):
        parse("a" * (longest + 1), "field")


@EVERY
@pytest.mark.parametrize("value", [None, 7, b"a", ["a"]])
def test_what_is_no_text_is_refused(parse: Parse, longest: int, value: object) -> None:
    with pytest.raises(InvalidSpec):
        parse(value, "field")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parse", "accepted", "refused"),
    [
        (parse_container_id, ("web", "0a_b.c-d", "9" * 64, "x.y_z-1"), ("a/b", "a:b", ".a", "_a", "..")),
        (parse_tenant, ("acme", "k8s:ns/team-a", "org/unit.7_x"), ("/acme", ":acme", ".acme")),
        (parse_link_name, ("eth0", "_x", "b9h-0.1"), (".", "..", "a/b", "a:b", "lo@if2", "all", "default")),
        (parse_label, ("resolver", "gw_1", "A-b"), ("1st", "a.b", "a/b", "_x")),
    ],
)
def test_each_grammar_has_its_own_characters(parse: Parse, accepted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    for text in accepted:
        assert parse(text, "field") == text
    for text in refused:
        with pytest.raises(InvalidSpec):
            parse(text, "field")


@pytest.mark.parametrize("parse", [parse_container_id, parse_tenant, parse_link_name, parse_label])
def test_a_refusal_says_what_the_first_character_may_be(parse: Parse) -> None:
    with pytest.raises(InvalidSpec, match="first a letter"):
        parse("-a", "field")


@EVERY
@given(text=st.text(max_size=300))
def test_whatever_is_accepted_is_one_unquoted_word(parse: Parse, longest: int, text: str) -> None:
    try:
        parsed = parse(text, "field")
    except InvalidSpec:
        return
    assert parsed == text
    assert 1 <= len(text) <= longest
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:/")
