"""A lab that somebody ends in the middle of its end."""

import signal

import pytest

from cellwall.lab import Lab, namespaces

pytestmark = pytest.mark.root


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_who_ends_a_lab_while_it_ends_is_obeyed_when_nothing_of_it_is_left(number: int) -> None:
    class Ended(BaseException):
        pass

    def end(_: int, __: object) -> None:
        raise Ended

    lab = Lab()
    asks_back = lab.node.popen(
        ["sh", "-c", f"trap 'kill -{int(number)} $PPID; exit' TERM; echo ready; sleep 60 & wait"], stdout=-1
    )
    assert asks_back.stdout is not None and asks_back.stdout.readline() == b"ready\n"
    former = signal.signal(number, end)
    try:
        with pytest.raises(Ended):
            lab.close()
    finally:
        signal.signal(number, former)
    assert namespaces.namespaces_of(lab.prefix) == []
    assert not lab.root.exists()
