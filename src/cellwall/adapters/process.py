"""The only place that starts other programs, but for the command that `cellwall run` becomes (`sandboxed`).

Owns: argument vectors (never a shell), a bounded time, no inherited descriptors (Python closes them, and
every descriptor we open is close-on-exec), a fixed locale so that messages can be read back.
Refuses: text that came from a user as part of an argument is the caller's to validate; nothing is quoted here
because nothing is ever parsed by a shell.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from cellwall.errors import CellwallError, Unavailable, Unsupported

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Completed(msgspec.Struct, frozen=True):
    """A finished program: its exit status (negative: the signal) and everything it wrote."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; undecodable bytes are replaced."""
        return self.stdout.decode(errors="replace")


class ProgramFailed(CellwallError):
    """A program ended with a status other than 0; `completed` has what it wrote."""

    def __init__(self, completed: Completed) -> None:
        self.completed = completed
        said = completed.stderr.decode(errors="replace").strip() or completed.text.strip()
        super().__init__(f"{' '.join(completed.argv)}: exit {completed.returncode}: {said}")


def find_program(name: str) -> str | None:
    """The absolute path of an installed program, or None. Looks into the system's directories also where
    a caller's PATH (a container runtime's, a boot unit's) leaves them out."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,  # the name subprocess itself gives it
    timeout: float = 30.0,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    bound: bool = False,
) -> Completed:
    """Run a program to its end.

    `timeout` is in seconds; a program that exceeds it is killed with its children and `Unavailable` raised.
    With `check`, a status other than 0 raises `ProgramFailed`; a missing program raises `Unsupported`. `bound`: it is
    killed when the calling thread dies, however that does; half a millisecond more, and without setpriv it is not.
    """
    command, program = _bound(argv) if bound else (argv, _required(argv))
    with subprocess.Popen(
        command,
        executable=program,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(env),
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):  # it may just have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unavailable(f"{' '.join(argv)}: no end within {timeout:g} s") from error
            raise
    completed = Completed(tuple(argv), process.returncode, out, err)
    if check and completed.returncode != 0:
        raise ProgramFailed(completed)
    return completed


def _required(argv: Sequence[str]) -> str:
    program = find_program(argv[0])
    if program is None:
        raise Unsupported(f"the program {argv[0]!r} is not installed")
    return program


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(env or {}), "LC_ALL": "C"}


def _bound(argv: Sequence[str]) -> tuple[Sequence[str], str]:
    """The command that asks for its own death and becomes the program. Asked here, between fork and exec, it would take
    from subprocess the way to start programs that is safe beside threads."""
    program = _required(argv)
    setpriv = find_program("setpriv")
    if setpriv is None:
        return argv, program
    return ["setpriv", "--pdeathsig", "KILL", "--", program, *argv[1:]], setpriv


def start(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that runs beside the caller, in a session of its own; `end` is what ends it.

    Output is discarded unless asked for: nobody reads a pipe on the caller's behalf, and a full one blocks.
    A missing program raises `Unsupported`.
    """
    return subprocess.Popen(
        argv,
        executable=_required(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=_environment(env),
        cwd=cwd,
        start_new_session=True,
    )


def end(programs: Sequence[subprocess.Popen[bytes]], *, patience: float = 0.5) -> None:
    """End started programs by pid and reap them: all are asked first, and killed `patience` seconds later."""
    for program in programs:
        if program.poll() is None:
            program.terminate()
    for program in programs:
        try:
            program.wait(patience)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()
