"""A call on a node whose daemon writes, where the thin plugin did not come to an answer.

That is a console script's call, a conflist of another node than the launcher's, and whatever the daemon says that is no
answer of a plugin's: it becomes the error that it tells of.
"""

import os

import msgspec

from cellwall.cni import thin
from cellwall.cni.codes import INVALID_ENVIRONMENT, Refusal
from cellwall.cni.ledger import Ledger
from cellwall.cni.main import Answer, Call
from cellwall.config import Paths, paths_for
from cellwall.errors import Conflict, Unavailable
from cellwall.wire.problems import Problem, error_of


def ask_daemon(call: Call, paths: Paths) -> Answer:
    """The daemon's answer to a call; raises the error that it tells of, Unavailable where it does not answer."""
    environ = {os.fsencode(name): os.fsencode(value) for name, value in call.environ.items()}
    answer = read_refusal(call, *thin.ask(os.fsencode(paths.base), environ, call.raw))
    if answer.failed or call.invocation.command != "ADD":
        return answer
    return Answer(answer.body, delivered=lambda: Ledger(paths.in_run("cni")).deliver(call.invocation.key))


def read_refusal(call: Call, status: int, body: bytes) -> Answer:
    """What the daemon said, as an answer or as the error that it is."""
    if status in (thin.OURS, thin.FAILED):
        return Answer(body, failed=status == thin.FAILED)
    socket = paths_for(call.conf.root or None).socket
    if status == thin.MISSING:
        raise Unavailable(f"{socket}: no daemon answered within {thin.PATIENCE:g} s, and only a daemon writes here")
    if status == thin.SILENT:
        raise Unavailable(f"{socket}: the daemon gave no answer in time")
    if status == thin.TOO_LARGE:
        name = max((name for name in call.environ if name.startswith("CNI_")), key=lambda name: len(call.environ[name]))
        raise Refusal(INVALID_ENVIRONMENT, name, len(call.environ[name]), "characters: more than a daemon reads")
    if status == thin.ELSEWHERE:
        raise Conflict(f"{socket}: the daemon there serves another node")
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{socket}: the daemon answered with status {status}") from error
    raise error_of(problem)
