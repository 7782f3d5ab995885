"""The command line: what it accepts, and how it refuses. Nothing here touches a node."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cellwall.cli.invocation import parse_requested
from cellwall.cli.main import main
from cellwall.cli.parser import parse_arguments
from cellwall.errors import InvalidSpec


def test_global_options_count_before_and_behind_the_command() -> None:
    given = parse_arguments(["--root", "/a", "--set", "network.mtu=1400", "-v", "list", "--json", "-v", "--set", "x=1"])
    assert (given.arguments.root, given.arguments.json) == ("/a", True)
    assert (given.arguments.verbose, given.arguments.verbose_late) == (1, 1)
    assert (given.arguments.set, given.arguments.set_late) == (["network.mtu=1400"], ["x=1"])


@pytest.mark.parametrize("command", [["demo"], ["attack"], ["cni", "install"]])
def test_programs_beside_the_wall_read_their_own_arguments(command: list[str]) -> None:
    given = parse_arguments([*command, "--anything", "at", "--all", "-h"])
    assert given.rest == ("--anything", "at", "--all", "-h")


@pytest.mark.parametrize("argv", [["--", "sh", "-c", "exit 3"], ["sh", "-c", "exit 3"]])
def test_everything_behind_run_is_the_command(argv: list[str]) -> None:
    given = parse_arguments(["run", "--tenant", "acme", "--expose", "80:80", *argv]).arguments
    assert [word for word in given.command if word != "--"] == ["sh", "-c", "exit 3"]
    assert (given.tenant, given.expose) == ("acme", ["80:80"])


def test_options_of_the_command_are_not_ours() -> None:
    given = parse_arguments(["run", "--", "ls", "--json", "--root", "/x"]).arguments
    assert (given.json, given.root) == (False, None)


@pytest.mark.parametrize(
    "argv",
    [[], ["fly"], ["attach"], ["attach", "a", "b"], ["up", "--forc"], ["list", "--js"], ["config"], ["up", "x\ny"],
     ["--log-format", "xml", "up"], ["expose", "a"]],
)  # fmt: skip
def test_usage_error_is_status_2_and_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("cellwall: usage: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--bogus"], ["--json", "--bogus"]])
def test_an_unknown_option_is_named_also_where_no_command_is(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "--bogus" in said
    assert "COMMAND" not in said


@pytest.mark.parametrize(
    "argv", [["policy", "--bogus"], ["policy", "set", "--bogus=1"], ["attach", "--bogus", "-v"], ["expose", "-x"]]
)
def test_an_unknown_option_is_named_before_what_is_missing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    unknown = next(word for word in argv if word in ("--bogus", "--bogus=1", "-x"))
    assert capsys.readouterr().err.endswith(f": unrecognized arguments: {unknown}\n")


@pytest.mark.parametrize(
    "argv", [["list", "--bogus"], ["policy", "show", "--tenant", "a", "b"], ["config", "show", "x"]]
)
def test_what_a_command_does_not_know_is_said_with_its_name(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    command = " ".join(argv[:1] if argv[0] == "list" else argv[:2])
    assert capsys.readouterr().err == f'cellwall: usage: "cellwall {command}": unrecognized arguments: {argv[-1]}\n'


@pytest.mark.parametrize(
    "argv",
    [["attach", "-vv", "--json"], ["policy", "set", "--ifname=e"], ["attach", "--root=/"], ["expose", "--", "-x"]],
)
def test_what_is_missing_beside_known_options_is_named(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [["--log-format", "json", "fly"], ["attach", "--log-format=json"],
     ["attack", "--log-format", "json", "--only", "Z9"],
     ["cni", "install", "--bin-dir", "/proc/none", "--log-format", "json"]],
)  # fmt: skip
def test_whatever_is_refused_is_an_object_a_line_where_logs_are(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) != 0
    said = capsys.readouterr()
    assert "unrecognized" not in said.err
    assert [set(msgspec.json.decode(line)) for line in said.err.splitlines()] == [
        {"time", "level", "logger", "message"}
    ]


def test_what_a_command_is_told_behind_run_is_not_for_our_logs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly", "--", "true", "--log-format", "json"]) == 2
    assert capsys.readouterr().err.startswith("cellwall: ")


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["attach", "a", "--ip", "10.0.0.300"], "--ip", "10.0.0.300"),
        (["attach", "a", "--ip", "10.0.0.1", "--ip", "10.0.0.2"], "--ip", "10.0.0.2"),
        (["attach", "a", "--mac", "01:00:5e:00:00:01"], "--mac", "01:00:5e:00:00:01"),
        (["attach", "a", "--mac", "00:00:00:00:00:00"], "--mac", "00:00:00:00:00:00"),
        (["attach", "a", "--expose", "0:80"], "--expose.host_port", "0"),
        (["attach", "a", "--expose", "80:80/sctp"], "--expose", "80:80/sctp"),
        (["attach", "a", "--expose", "8080"], "--expose", "8080"),
        (["expose", "a", "90-80:80"], "expose.host_port", "90-80"),
        (["expose", "a", "127.0.0.1:80:80"], "expose.bind", "127.0.0.1"),
        (["unexpose", "a", "80:99999"], "unexpose.port", "99999"),
        (["release", "a b"], "container id", "a b"),
        (["reserve", "a b"], "container id", "a b"),
        (["reserve", "a", "--count", "65"], "count", "65"),
        (["reserve", "a", "--seconds", "nan"], "seconds", "nan"),
        (["reserve", "a", "--tenant", "a b"], "tenant", "a b"),
        (["run", "--name", "a/b", "--", "true"], "--name", "a/b"),
        (["run"], "command", ""),
        (["up", "--set", "network.mtu"], "--set", "network.mtu"),
        (["up", "--set", "network.mtu=12"], "network.mtu", "12"),
        (["up", "--set", "network.mut=1400"], "network.mut", "1400"),
        (["config", "check", "--set", "network.subnet4=10.0.0.1/20"], "network.subnet4", "10.0.0.1/20"),
    ],
)
def test_bad_value_is_refused_before_the_node_is_touched(
    argv: list[str], field: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", "--root", str(tmp_path), *argv]) == 2
    said = capsys.readouterr()
    error = msgspec.json.decode(said.out)["error"]
    assert (error["field"], error["value"], error["kind"], error["status"]) == (field, value, "invalid", 2)
    assert said.err == f"cellwall: {error['message']}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("daemon.group=no-such-group", 'daemon.group: "no-such-group": there is no such group'),
        ("daemon.allow=0 list *;no-such-group list *", 'daemon.allow: "no-such-group list *": there is no such group'),
        ("daemon.allow=65534 list *", "daemon.allow: \"65534 list *\": is nobody's group, and so anybody's"),
    ],
)
def test_what_the_daemon_would_refuse_here_is_told_by_a_check_of_what_is_right_elsewhere(
    setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), "config", "check", "--set", setting]) == 0
    assert capsys.readouterr().err == f"cellwall: warning: {said} (on this host)\n"
    assert main(["--root", str(tmp_path), "config", "check", "--set", "daemon.group=0"]) == 0
    assert capsys.readouterr().err == ""


def test_requested_addresses_are_one_of_each_family() -> None:
    four, six = parse_requested(["fd00:abcd::9", "192.168.0.9"])
    assert (str(four), str(six)) == ("192.168.0.9", "fd00:abcd::9")
    assert parse_requested([]) == (None, None)
    with pytest.raises(InvalidSpec, match="second IPv6 address"):
        parse_requested(["::2", "::3"])


def test_config_show_names_every_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "etc/cellwall/cellwall.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[network]\nbridge = "br7"\n')
    monkeypatch.setenv("CELLWALL_NETWORK_MTU", "1400")
    monkeypatch.setenv("CELLWALL_ROOT", str(tmp_path))
    assert main(["config", "show", "--json", "--set", "limits.connections=9"]) == 0
    settings = msgspec.json.decode(capsys.readouterr().out)["settings"]
    assert settings["network.bridge"] == {"value": "br7", "origin": "file"}
    assert settings["network.mtu"] == {"value": 1400, "origin": "environment"}
    assert settings["limits.connections"] == {"value": 9, "origin": "flag"}
    assert settings["network.dns"] == {"value": [], "origin": "default"}
    assert main(["config", "show"]) == 0
    assert "br7" in capsys.readouterr().out
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == f"{file}: valid\n"
    file.write_text("[network]\nbrigde = 1\n")
    assert main(["config", "check"]) == 2
    assert "did you mean network.bridge?" in capsys.readouterr().err


def test_version_and_help_need_neither_engine_nor_privilege() -> None:
    program = (
        "import sys\nfrom cellwall.cli.main import main\nassert main(['version']) == 0\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cellwall ")
    loaded = set(done.stderr.split())
    assert not loaded & {"cellwall.api", "sqlite3", "subprocess", "ctypes", "tomllib", "cellwall.attack.suite"}


@pytest.mark.parametrize("while_loading", ["msgspec", "cellwall.cli.commands.attachments"])
def test_interrupt_while_the_program_loads_is_a_status_and_no_traceback(while_loading: str) -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {while_loading!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from cellwall.cli.main import main\nsys.argv[1:] = ['version']\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_interrupt_after_the_answer_changes_it_no_more() -> None:
    code = (
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from cellwall.cli.main import main\nsys.argv[1:] = ['version']\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout.split()[:1], done.stderr) == (0, [b"cellwall"], b"")


def test_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys\nfrom cellwall.cli.main import main\nsys.exit(main(['config', 'show']))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    _, said = child.communicate(timeout=20)
    assert said == b""
    assert child.returncode == 1


@pytest.mark.parametrize("json", [["--json", "cni", "install"], ["cni", "install", "--json"]])
def test_cni_install_speaks_json_wherever_the_option_stands(
    json: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d")]
    assert main([*json, *places]) == 0
    report = msgspec.json.decode(capsys.readouterr().out)["report"]
    assert any("cellwall-cni" in line for line in report)
    assert (tmp_path / "bin/cellwall-cni").exists()
    assert main(["cni", "install", *places]) == 0
    assert "cellwall-cni" in capsys.readouterr().out


def test_error_of_a_program_beside_the_wall_is_said_like_every_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "bin/cellwall-cni"
    taken.parent.mkdir()
    taken.write_text("someone else's")
    argv = ["cni", "install", "--bin-dir", str(taken.parent), "--conf-dir", str(tmp_path)]
    assert main([*argv, "--json"]) == 4
    said = capsys.readouterr()
    assert msgspec.json.decode(said.out)["error"]["kind"] == "already-exists"
    assert said.err.startswith("cellwall: ")
    assert taken.read_text() == "someone else's"


def test_what_the_system_refuses_is_said_by_path_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["cni", "install", "--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(file)]) == 1
    assert capsys.readouterr().err == f"cellwall: {file}/10-cellwall.conflist: Not a directory\n"
