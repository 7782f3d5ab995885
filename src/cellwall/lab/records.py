"""Which labs there are, and the removal of what those that did not end by themselves left behind.

Owns: one record per running lab in `/run/cellwall-lab`, written before the first namespace exists, so that
there is never a namespace without a record. /run and not the temporary directory: the record names a
directory that a sweep run by root deletes, so nobody else may be able to write it; and both records and
namespaces end with the boot. A record is dead when its process is gone, or when the pid now belongs to a
process started at another time. Two sweeps at once are harmless: every step tolerates that the thing is
gone.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from cellwall.adapters.sandbox.namespaces import ProcNamespaces
from cellwall.errors import LabError
from cellwall.lab import namespaces

RECORDS = Path("/run/cellwall-lab")


class Record(msgspec.Struct, frozen=True):
    """A lab that is or was running: its process, when that started (ticks after boot), its directory."""

    prefix: str
    pid: int
    started: int
    pid_namespace: int
    root: str


def register(prefix: str, root: Path) -> Path:
    """Write the record of a starting lab; LabError where the prefix has one already."""
    record = Record(prefix, os.getpid(), _start_time(os.getpid()) or 0, _pid_namespace(), str(root))
    RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = RECORDS / prefix
    draft = RECORDS / f".{prefix}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(record))
    try:
        # link, not rename: it fails where the record exists, and a half-written one is never seen.
        os.link(draft, path)
    except FileExistsError as error:
        raise LabError(f"prefix: {prefix!r}: is in use by another lab") from error
    finally:
        draft.unlink()
    return path


def sweep() -> list[str]:
    """Remove the processes, namespaces, directories and records of dead labs; returns their prefixes."""
    swept = []
    for path in sorted(RECORDS.glob("[a-z]*")):
        record = _read(path)
        if record is None or _lives(record):
            continue
        remove(record.prefix, Path(record.root))
        swept.append(record.prefix)
    return swept


def remove(prefix: str, root: Path) -> None:
    """Remove one lab: what runs inside first, so that the namespaces really end; the record last."""
    namespaces.end_processes(prefix)
    namespaces.delete_namespaces(namespaces.namespaces_of(prefix))
    remove_root(root)
    (RECORDS / prefix).unlink(missing_ok=True)


def remove_root(root: Path) -> None:
    """Delete a lab's directory, and the namespaces that a node kept below it; LabError where anything else is mounted
    there, whose files are not ours."""
    below = f"{os.path.realpath(root)}/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        mount, kind = fields[4], fields[fields.index("-") + 1]
        if not mount.startswith(below):
            continue
        if kind != "nsfs":
            raise LabError(f"{root}: not removed, {mount} is still mounted")
        ProcNamespaces().remove(mount)
    shutil.rmtree(root, ignore_errors=True)


def _read(path: Path) -> Record | None:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LabError(f"{path}: is not the record of a lab: {error}") from error
    namespaces.check_prefix(record.prefix)
    return record


def _lives(record: Record) -> bool:
    # A pid of another pid namespace says nothing here; such a lab is left to a sweep over there.
    return record.pid_namespace != _pid_namespace() or _start_time(record.pid) == record.started


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start_time(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None where it is gone or only waits to be reaped."""
    with suppress(OSError):
        # The name in parentheses may itself contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return int(fields[19])
    return None
