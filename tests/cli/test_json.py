"""`--json`: one document on standard output, whatever the command and whatever became of it."""

from pathlib import Path

import pytest
from nodecommand import Command

pytestmark = pytest.mark.root

STORY = (
    ("version",),
    ("config", "check"),
    ("config", "show"),
    ("status",),
    ("list",),
    ("up",),
    ("attach", "web", "--expose", "8080:80"),
    ("expose", "web", "8081:80"),
    ("unexpose", "web", "8081:80"),
    ("list",),
    ("status",),
    ("reconcile",),
    ("doctor",),
    ("detach", "web"),
    ("down",),
    ("uninstall",),
)
REFUSED = (
    (("attach", "a b"), 2),
    (("attach",), 2),
    (("nonsense",), 2),
    (("attach", "a", "--netns", "/nonexistent"), 3),
    (("expose", "nobody", "8080:80"), 3),
    (("unexpose", "nobody", "8080:80"), 3),
    (("config", "check", "--set", "network.mtu=x"), 2),
    (("up", "--set", "node.interface=nothing0"), 2),
    (("--root", "/proc/nowhere", "list"), 3),
    (("--root", "/proc/nowhere", "up"), 1),
    (("run", "--name", "a b", "--", "true"), 2),
    (("demo", "--nope"), 2),
    (("attack", "--against", "zzz"), 2),
    (("attack", "--here", "--compare"), 2),
    (("cni", "install", "--nope"), 2),
)


def test_every_command_answers_with_one_document(cellwall: Command, tmp_path: Path) -> None:
    install = ("cni", "install", "--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "conf"))
    for words in (*STORY, install):
        answer = cellwall("--json", *words)
        assert answer.status in (0, 10), (words, answer)
        assert isinstance(answer.json, dict), words
        assert "error" not in answer.json
        plain = cellwall(*words)
        assert not plain.out.startswith("{"), words


@pytest.mark.parametrize(("words", "status"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_every_refusal_is_a_document_with_its_status(cellwall: Command, words: tuple[str, ...], status: int) -> None:
    answer = cellwall("--json", *words)
    assert (answer.status, answer.json["error"]["status"]) == (status, status), answer
    assert answer.json["error"]["message"]
    assert answer.json["error"]["kind"]
    (line,) = [line for line in answer.err.splitlines() if not line.startswith("cellwall: warning: ")]
    assert line.startswith("cellwall: ")
