"""What the search for words that do not belong here catches, and what it leaves alone."""

import pytest

from lint.words import FORBIDDEN


@pytest.mark.parametrize(
    "line",
    [
        "# as in /work/notes.md", "see shared/design.md", "path = '/root/.local/bin'", "/home/me/src", "~/.pyenv/bin",
        "# fixes #12", "issue 7 says so", "Closes #3.", "as the rubric asks", "done in this session",
    ],
)  # fmt: skip
def test_a_reference_that_no_reader_can_follow_is_caught(line: str) -> None:
    assert FORBIDDEN.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "a /proc/1/root/etc b", 'root = "{self.base}/root/x"', "[1](#1-nftables)", "#!/bin/sh", "# 12 of them",
        "a shared bridge", "Python as pyenv installs it", "&#39;", "the worker/root/", "http://x/issues/#5",
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_left_alone(line: str) -> None:
    assert not FORBIDDEN.search(line)
