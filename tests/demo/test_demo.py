"""The story comes out as told, says so in its exit status, and leaves nothing behind."""

import os
import pty
import signal
import subprocess
import sys

import msgspec
import pytest

from cellwall.demo import attempts, play
from cellwall.demo.attempts import Attempt, Outcome
from cellwall.demo.command import main
from cellwall.demo.story import Story
from cellwall.errors import NoPrivilege, Unsupported
from cellwall.lab.namespaces import namespaces_of
from running import labs_of

_DEMO = [sys.executable, "-c", "import sys; from cellwall.demo import main; sys.exit(main(sys.argv[1:]))"]


@pytest.mark.root
def test_demo_comes_out_as_told() -> None:
    done = subprocess.run([*_DEMO, "--json"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    document = msgspec.json.decode(done.stdout)
    assert document["as_told"]
    lines = [line for scene in document["scenes"] for line in scene["lines"]]
    stopped = [line["what"] for line in lines if line["mark"] == "stopped"]
    through = [line["what"] for line in lines if line["mark"] == "gets through"]
    assert stopped == through == [attempt.title for attempt in attempts.ATTEMPTS]


@pytest.mark.root
def test_text_has_no_escapes_where_it_is_not_read_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-control"]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert f"{len(attempts.ATTEMPTS)} attempts, none through the wall" in told


@pytest.mark.root
def test_an_attempt_that_gets_through_is_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leak = Attempt("walks through", lambda cast: Outcome(True, "arrived"))
    monkeypatch.setattr(play, "ATTEMPTS", (leak,))
    assert main(["--no-control"]) == 1
    assert "✗ walks through" in capsys.readouterr().out


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_no_namespace(number: signal.Signals) -> None:
    running = subprocess.Popen([*_DEMO], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    for line in running.stdout:
        if b"Two tenants move in" in line:
            break
    else:
        raise AssertionError(f"it ended before that, with {running.wait(60)}")
    (prefix,) = labs_of(running.pid)
    assert namespaces_of(prefix)
    running.send_signal(number)
    running.stdout.close()
    assert running.wait(60) != 0
    assert not namespaces_of(prefix)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoPrivilege, match="needs root"):
        main([])


def test_without_nft_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("cellwall.demo.command.find_program", lambda name: None)
    with pytest.raises(Unsupported, match="'nft' is not installed"):
        main([])


def test_colour_is_for_terminals_and_no_color_is_respected() -> None:
    script = "from cellwall.demo.story import Story; s = Story(); s.open('t'); s.tell('x', 'works', 'y')"
    for no_color, coloured in (("", True), ("1", False)):
        reader, terminal = pty.openpty()
        environment = {**os.environ, "NO_COLOR": no_color}
        subprocess.run([sys.executable, "-c", script], stdout=terminal, env=environment, check=True)
        os.close(terminal)
        assert (b"\x1b[" in os.read(reader, 4096)) is coloured
        os.close(reader)


def test_a_line_that_is_not_as_told_decides_the_story() -> None:
    story = Story(json=True)
    story.open("scene")
    story.tell("this", "works", "it did")
    assert story.as_told
    story.tell("that", "stopped", "it was not", as_told=False)
    assert not story.as_told


def test_frames_are_well_formed() -> None:
    from ipaddress import IPv4Address

    from cellwall.demo.frames import arp_announcement, udp_frame

    frame = udp_frame(1, 2, IPv4Address("192.168.0.3"), "151.101.1.69", 4000, b"token")
    words = [int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)]
    assert (sum(words) & 0xFFFF) + (sum(words) >> 16) == 0xFFFF  # RFC 1071: a right header sums to all ones
    assert frame.endswith(b"token")
    assert len(arp_announcement(1, 2, IPv4Address("192.168.0.3"))) == 42
