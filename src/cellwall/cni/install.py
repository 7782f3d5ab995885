"""`cellwall cni install`: the plugin's executable and a first conflist, where container runtimes look for them.

Owns: a launcher that starts the interpreter without `site` and without the environment's PYTHON* variables (-I -S),
with exactly the two directories it needs behind the standard library: that is 4 ms less per call than a console script
and nothing in a runtime's environment can change what is imported. And the package's bytecode, compiled here, because a
plugin that first runs under a read-only root would compile it at every call.
Refuses: to overwrite a file that it did not write, without --force. Each file appears whole or not at all.

The conflist speaks 1.0.0 and lists the others in `cniVersions`: a runtime that knows that key (libcni 1.2) takes the
newest, and containerd 1.7, whose libcni ends at 1.0.0, still takes the file.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

import cellwall
from cellwall.arguments import Parser
from cellwall.cni.conf import VERSIONS
from cellwall.errors import AlreadyExists, InvalidSpec, KernelError, NoPrivilege

PLUGIN = "cellwall-cni"
CONFLIST = "10-cellwall.conflist"

_MARK = "# Written by `cellwall cni install`; install again after moving or upgrading cellwall."
_SHEBANG_LIMIT = 127  # linux/binfmts.h BINPRM_BUF_SIZE before Linux 5.1


def main(argv: Sequence[str] | None = None) -> int:
    """Install by command line arguments; the exit status."""
    parser = Parser(prog="cellwall cni install", description="Install the CNI plugin and a sample conflist.")
    parser.add_argument("--bin-dir", default="/opt/cni/bin", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--conf-dir", default="/etc/cni/net.d", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--root", default="", metavar="DIR", help="the node's root, written into both")
    parser.add_argument("--force", action="store_true", help="replace files that are there and differ")
    chosen = parser.parse_args(argv)
    for line in install(chosen.bin_dir, chosen.conf_dir, root=chosen.root, force=chosen.force):
        print(line)
    return 0


def install(bin_dir: str, conf_dir: str, *, root: str = "", force: bool = False) -> tuple[str, ...]:
    """Write both files, or none where one may not be written; a line of report for each. Idempotent."""
    if root and not os.path.isabs(root):
        raise InvalidSpec("root", root, "must be an absolute path")
    plan = (
        (os.path.join(bin_dir, PLUGIN), launcher(root), 0o755),
        (os.path.join(conf_dir, CONFLIST), conflist(root), 0o644),
    )
    for path, content, _ in plan:
        present = _read(path)
        ours = present is None or present == content or _MARK.encode() in present
        if not ours and not force:
            raise AlreadyExists(f"{path} exists and differs; --force replaces it")
    report = [_write(path, content, mode) for path, content, mode in plan]
    return (*report, _compile())


def launcher(root: str = "", interpreter: str = "", directories: Sequence[str] = ()) -> bytes:
    """The executable's text. `root`: where it looks for a daemon first."""
    interpreter = interpreter or sys.executable
    searched = list(directories or dict.fromkeys(_parent(module.__file__) for module in (cellwall, msgspec)))
    first = f"#!{interpreter} -IS"
    if len(first) > _SHEBANG_LIMIT or any(character.isspace() for character in interpreter):
        # the kernel splits a first line at blanks and cuts it off: sh starts the interpreter on this same file, to
        # which the line is a string
        quoted = interpreter.replace("'", "'\"'\"'")
        first = f"#!/bin/sh\n'''exec' '{quoted}' -IS \"$0\" \"$@\"\n' '''"
    lines = (
        first,
        _MARK,
        "import gc, sys",
        "gc.disable()  # one short process: collecting its garbage only costs time",
        f"sys.path += {searched!r}",
        "from cellwall.cni.thin import run",
        f"run({root!r})",
    )
    return "\n".join(lines).encode() + b"\n"


def conflist(root: str = "") -> bytes:
    """The sample conflist's text."""
    plugin: dict[str, object] = {
        "type": PLUGIN,
        "capabilities": {"portMappings": True, "ips": True, "mac": True},
    }
    if root:
        plugin["root"] = root
    document = {"cniVersion": "1.0.0", "cniVersions": VERSIONS, "name": "cellwall", "plugins": [plugin]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _parent(file: str | None) -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(file or "")))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NoPrivilege(f"{path}: permission denied") from error


def _write(path: str, content: bytes, mode: int) -> str:
    if _read(path) == content:
        return f"{path}: as it was"
    draft = f"{path}.{os.getpid()}.new"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.write(descriptor, content)
            os.fchmod(descriptor, mode)  # past the umask
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(draft, path)
    except PermissionError as error:
        raise NoPrivilege(f"{path}: permission denied") from error
    except OSError as error:
        with suppress(OSError):
            os.unlink(draft)
        raise KernelError(error.errno or 0, f"writing {path}") from error
    return f"{path}: written"


def _compile() -> str:
    from compileall import compile_dir

    directory = os.path.dirname(os.path.abspath(cellwall.__file__))
    done = compile_dir(directory, quiet=2)
    return f"{directory}: bytecode {'compiled' if done else 'could not be compiled; each call will be slower'}"
