"""Which host port each of some bindings is given that would have any, by who has had some."""

import pytest

from cellwall.engine.ports.auto_ports import with_former_ports
from cellwall.model.endpoint import parse_binding

SPAN = (61000, 61009)


@pytest.mark.parametrize(
    ("asked", "former", "settled"),
    [
        ("auto:80", "61002:80", "61002:80"),
        ("auto:80 auto:80", "61002:80 61001:80", "61002:80 61001:80"),
        ("auto:80 auto:80", "61002:80", "61002:80 auto:80"),
        ("auto:80", "61002:80/udp", "auto:80"),
        ("auto:80", "8080:80", "auto:80"),
        ("auto:80 61002:80", "61002:80 61001:80", "61001:80 61002:80"),
        ("auto:80 61002:81", "61002:80", "auto:80 61002:81"),
        ("61000-61009:81 auto:80", "61002:80", "61000-61009:81 auto:80"),
        ("auto:80 61002:81/udp", "61002:80 61002:81/udp", "61002:80 61002:81/udp"),
    ],
)
def test_who_asks_again_has_what_it_was_given_but_for_what_it_names_for_another(
    asked: str, former: str, settled: str
) -> None:
    given = [parse_binding(text, auto=True) for text in asked.split()]
    had = [parse_binding(text) for text in former.split()]
    expected = [parse_binding(text, auto=True) for text in settled.split()]
    assert with_former_ports(given, had, SPAN) == expected
