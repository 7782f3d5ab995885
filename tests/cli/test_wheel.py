"""The wheel, installed where nothing of the checkout is seen: its commands work, what an operator needs is there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import msgspec
import pytest

import cellwall
from cellwall.lab import Lab

CHECKOUT = Path(__file__).parents[2]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CELLWALL"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(CHECKOUT))
    (made,) = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own, as pipx makes one, without asking a registry: what the wheel requires is copied from
    where the tests run, and the installation refuses what is missing."""
    place = tmp_path_factory.mktemp("place") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    (site,) = place.glob("lib/python*/site-packages")
    for required in ("msgspec*", "yaml", "_yaml", "[Pp]y[Yy][Aa][Mm][Ll]*"):
        for source in Path(sysconfig.get_path("platlib")).glob(required):
            shutil.copytree(source, site / source.name)
    _pip("--python", str(place / "bin/python"), "install", "--no-index", str(wheel))
    return place


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=CLEAN, timeout=110, cwd="/")
    assert done.returncode == 0, done.stderr


def _say(*argv: str, **environ: str) -> str:
    given = {**CLEAN, **environ}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, input="", env=given, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_the_package_its_types_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "cellwall/py.typed" in names
    modules = {str(path.relative_to(CHECKOUT / "src")) for path in (CHECKOUT / "src").rglob("*.py")}
    assert modules <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"cellwall"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_both_commands_work_from_their_own_environment(place: Path) -> None:
    where = _say(str(place / "bin/python"), "-c", "import cellwall; print(cellwall.__file__)")
    assert Path(where.strip()).is_relative_to(place)
    assert cellwall.__version__ in _say(str(place / "bin/cellwall"), "version")
    document = msgspec.json.decode(_say(str(place / "bin/cellwall-cni"), CNI_COMMAND="VERSION"))
    assert document["supportedVersions"] == ["0.4.0", "1.0.0", "1.1.0"]


def test_the_units_are_installed_with_it(place: Path) -> None:
    units = {unit.name: unit.read_text() for unit in (CHECKOUT / "packaging/systemd").iterdir()}
    assert {unit.name: unit.read_text() for unit in (place / "lib/systemd/system").iterdir()} == units
    for shared in ("grafana/cellwall.json", "prometheus/alerts.yml"):
        assert (place / "share/cellwall" / shared).read_text() == (CHECKOUT / "packaging" / shared).read_text()


def test_without_what_the_daemon_needs_everything_else_works_and_serve_says_what(place: Path, tmp_path: Path) -> None:
    argv = [str(place / "bin/cellwall"), "--root", str(tmp_path), "serve"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=CLEAN, cwd="/", timeout=60)
    assert (done.returncode, "aiohttp: install cellwall[daemon]" in done.stderr) == (5, True), done.stderr


@pytest.mark.root
def test_an_installed_program_walls_a_sandbox(place: Path, tmp_path: Path) -> None:
    with Lab() as lab:
        node = ["nsenter", f"--net={lab.node.netns}"]
        program = [*node, str(place / "bin/cellwall"), "--root", str(lab.root)]
        _say(*program, "cni", "install", "--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d"))
        _say(*program, "attach", "web", "--expose", "8080:80@203.0.113.0/24")
        assert _say(*program, "status")
        plugin = tmp_path / "bin/cellwall-cni"
        conf = {"cniVersion": "1.1.0", "name": "net", "type": "cellwall-cni", "root": str(lab.root)}
        done = subprocess.run(
            [*node, str(plugin)],
            input=msgspec.json.encode(conf),
            env={
                "CNI_COMMAND": "ADD",
                "CNI_CONTAINERID": "pod",
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": str(lab.sandbox("pod").netns),
            },
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout
        listed = msgspec.json.decode(_say(*program, "list", "--json"))
        assert [row["container"] for row in listed["endpoints"]] == ["pod", "web"]
        _say(*program, "uninstall", "--force")
