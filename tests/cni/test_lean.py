"""msgspec without what a plugin never uses: in a process of its own, as it changes what the process has loaded."""

import subprocess
import sys
from pathlib import Path

import msgspec

import cellwall


def printed(program: str, *directories: Path) -> str:
    """What a program prints in a fresh interpreter that is started as the launcher starts it."""
    installed = (Path(module.__file__ or "").parents[1] for module in (cellwall, msgspec))
    begin = f"import sys; sys.path += {[*map(str, (*directories, *installed))]!r}; import cellwall.lean\n"
    argv = [sys.executable, "-IS", "-c", begin + program]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_what_stood_in_is_gone_when_msgspec_is_there() -> None:
    program = """
import decimal, enum, re, uuid, msgspec.inspect, msgspec.json
assert re.compile("a+").fullmatch("aa")
assert enum.Enum("Colour", "RED").RED.value == 1
assert decimal.Decimal("1.5") + uuid.UUID(int=1).int == decimal.Decimal("2.5")
assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()
print("whole")"""
    assert printed(program) == "whole"


def test_what_a_plugin_reads_and_writes_is_read_and_written() -> None:
    program = """
import msgspec
from ipaddress import IPv4Address
class Conf(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    is_known: bool
    some_number: int | msgspec.UnsetType = msgspec.UNSET
    the_table: dict[str, tuple[float, ...]] = {}
conf = msgspec.convert(msgspec.json.decode(b'{"isKnown":true,"theTable":{"a":[1.5,2]}}'), Conf)
assert msgspec.json.decode(msgspec.json.encode(conf), type=Conf) == conf
assert msgspec.structs.replace(conf, some_number=3).some_number == 3
try:
    msgspec.json.decode(b'{"isKnown":1}', type=Conf)
except msgspec.ValidationError as error:
    print(error)"""
    assert "isKnown" in printed(program)


def test_a_msgspec_that_looks_for_something_else_is_imported_as_usual(tmp_path: Path) -> None:
    package = tmp_path / "msgspec"
    package.mkdir()
    (package / "__init__.py").write_text("from .core import FLAG\n")
    (package / "core.py").write_text("import enum\nFLAG = enum.Flag\n")
    assert printed("import msgspec; print(msgspec.FLAG.__name__)", tmp_path) == "Flag"


def test_one_that_is_loaded_already_stays(tmp_path: Path) -> None:
    program = "import msgspec, decimal; print(msgspec.json.encode(decimal.Decimal('1.5')).decode())"
    loaded = f"import sys; sys.path += {[str(Path(m.__file__ or '').parents[1]) for m in (cellwall, msgspec)]!r}\n"
    argv = [sys.executable, "-IS", "-c", loaded + "import msgspec, cellwall.lean\n" + program]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip() == '"1.5"'
