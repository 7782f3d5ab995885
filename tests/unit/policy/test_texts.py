"""The text of policies: what is read of YAML and JSON, and what is refused of either."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.config.policy_text import MAX_SIZE, parse_text
from cellwall.errors import InvalidSpec
from cellwall.model.policy_document import parse_policy

YAML = """\
version: 1
mode: allow     # what a build needs
rules:
  - {action: allow, prefix: 151.101.0.0/16, protocol: tcp, ports: 443}
  - action: allow
    prefix: 2a04:4e42::/32
    protocol: tcp
    ports: 80-443
sources:
  - 203.0.113.0/24
"""
JSON = """\
{"version": 1, "mode": "allow", "sources": ["203.0.113.0/24"],
 "rules": [{"action": "allow", "prefix": "151.101.0.0/16", "protocol": "tcp", "ports": 443},
           {"action": "allow", "prefix": "2a04:4e42::/32", "protocol": "tcp", "ports": "80-443"}]}
"""


def test_both_forms_say_the_same() -> None:
    assert parse_text(YAML) == parse_text(JSON) == parse_text(JSON.encode())
    assert parse_policy(parse_text(YAML)).policy.rules[1].ports == (80, 443)


@pytest.mark.parametrize("text", [
    "mode: open\nmode: block",
    '{"mode": "open", "mode": "block"}',
    '{"rules": [{"prefix": 1, "prefix": 2}]}',
])  # fmt: skip
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="stands twice"):
        parse_text(text)


@pytest.mark.parametrize("text", [
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "a: *b",
    "&a x",
    "!!python/object/apply:os.system [x]",
    "a: !!binary x",
    "a: !foo x",
    "1: 2",
    "? [a]\n: b",
    "[" * 100_000,
    '{"a":' * 100_000,
    "- " * 9 + "a",
    "a: " + "9" * 5000,
    '{"a": ' + "9" * 5000 + "}",
    '{"a": NaN}',
    '{"a": 1} x',
    "a: [",
    "a: b: c",
    "--- a\n--- b",
    "\0",
    b"\xff",
    "a" * (MAX_SIZE + 1),
])  # fmt: skip
def test_what_only_an_attacker_or_a_slip_writes_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidSpec):
        parse_text(text)


@pytest.mark.parametrize(("text", "line", "said"), [
    ("mode: allow\nrules:\n\t- {}", 3, "cannot start any token"),
    ("mode: allow\nrules: [", 2, "expected the node content"),
    ("mode: allow\n---\nmode: block", 2, "another document"),
    ("mode: open\nlinks: no: yes", 2, "mapping values are not allowed here"),
    ("mode: open\nlinks: \0", 2, "special characters are not allowed"),
    (f"mode: open\nlinks: !{'x' * 5000}!y yes", 2, "found undefined tag handle"),
    ('{"mode": "open",\n "links" false}', 2, "Expecting ':' delimiter"),
])  # fmt: skip
def test_a_slip_is_named_by_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_text(text)
    assert refused.value.value == f"line {line}"
    assert said in refused.value.reason and "\n" not in str(refused.value) and len(str(refused.value)) < 200


@pytest.mark.parametrize(("text", "value"), [
    ("22:22", "22:22"), ("0777", "0777"), ("no", "no"), ("2001-01-01", "2001-01-01"), (".inf", ".inf"),
    ("1_000", "1_000"), ("true", True), ("~", None), ("null", None), ("", None), ("8080", 8080), ("'1'", "1"),
])  # fmt: skip
def test_a_word_means_what_it_means_in_json(text: str, value: object) -> None:
    assert parse_text(f"a: {text}") == {"a": value}


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert parse_text("<<: {mode: block}") == {"<<": {"mode": "block"}}


@given(st.text(max_size=40) | st.binary(max_size=40) | st.text("-:{}[],&*! \n'\"#|>ab01", max_size=40))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        parse_text(text)
    except InvalidSpec as error:
        assert error.field == "policy"
