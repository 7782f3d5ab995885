"""What a service says to systemd and is given by it, over sockets of the test's own."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.adapters import service_manager as module
from cellwall.adapters.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@cellwall-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if address.startswith("@") else address)
        listening.settimeout(10)
        yield address, listening


def test_what_is_said_arrives_a_line_each(heard: tuple[str, socket.socket]) -> None:
    address, listening = heard
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "PATH": "/bin"}
    manager = ServiceManager(environ)
    manager.tell(READY=1, STATUS="three words here")
    assert listening.recv(4096) == b"READY=1\nSTATUS=three words here"
    manager.reloading()
    assert listening.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert (manager.watchdog, environ) == (3.0, {"PATH": "/bin"})


def test_a_descriptor_is_handed_over_to_be_kept(heard: tuple[str, socket.socket]) -> None:
    address, listening = heard
    reading, writing = os.pipe()
    ServiceManager({"NOTIFY_SOCKET": address}).keep("rules", writing)
    os.close(writing)
    assert listening.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=rules"
    text, (kept,), _, _ = socket.recv_fds(listening, 4096, 4)
    assert text == b"FDSTORE=1\nFDNAME=rules\nFDPOLL=0"
    os.write(kept, b"still open")
    os.close(kept)
    assert os.read(reading, 64) == b"still open"
    os.close(reading)


def test_who_does_not_listen_keeps_nothing_from_being_done(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        manager = ServiceManager(dict(environ))
        manager.tell(READY=1)
        assert (manager.watchdog, manager.given) == (0.0, ())


def test_a_watchdog_or_descriptors_of_another_process_are_not_ours() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    manager = ServiceManager(environ)
    assert (manager.watchdog, manager.given, environ) == (0.0, (), {})


def test_descriptors_are_given_by_name_and_to_no_child() -> None:
    program = (
        "import os\nfrom cellwall.adapters.service_manager import ServiceManager as M\n"
        "os.dup2(os.pipe()[0], 3); os.dup2(os.pipe()[0], 4)\n"
        "os.set_inheritable(3, True); os.set_inheritable(4, True)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='api')\n"
        "print([(g.name, g.fd, os.get_inheritable(g.fd)) for g in M(os.environ).given], 'LISTEN_FDS' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[('api', 3, False), ('unknown', 4, False)] False\n"


def test_one_that_takes_nothing_is_waited_for_by_nobody_and_hears_all_of_it_later(
    heard: tuple[str, socket.socket],
) -> None:
    address, listening = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    reading, writing = os.pipe()
    names = [f"port-{number}" for number in range(300)]  # far more than the socket's queue has room for
    began = time.monotonic()
    for name in names:
        manager.keep(name, writing)
    manager.tell(WATCHDOG=1)
    manager.tell(WATCHDOG=1)
    for name in names[150:]:
        manager.forget(name)
    manager.tell(STATUS="all said")
    assert time.monotonic() - began < 10, "it was waited for, a second and more for each"
    os.close(writing)
    kept, said = store_of(listening, b"STATUS=all said")
    assert (set(kept), said.count(b"WATCHDOG=1")) == (set(names[:150]), 1)
    os.write(kept["port-149"], b"still open")
    assert os.read(reading, 64) == b"still open"
    for fd in kept.values():
        os.close(fd)
    assert os.read(reading, 64) == b"", "what was to be kept no longer is open yet"
    os.close(reading)
    manager.tell(STATUS="heard at once again")
    assert listening.recv(4096) == b"STATUS=heard at once again"


def test_where_no_thread_can_be_had_what_waits_is_said_with_a_later_word(
    heard: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As amid a fork bomb of somebody else's: nobody who has something to say fails by it, and nothing is lost."""
    address, listening = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    with monkeypatch.context() as short:
        short.setattr(module, "Thread", NoThread)
        for number in range(300):
            manager.tell(STATUS=number)
        manager.tell(WATCHDOG=1)
        manager.tell(WATCHDOG=1)
    assert [record.message for record in caplog.records] == [
        "the service manager is busy, and what waits for it is said later: can't start new thread"
    ]
    manager.tell(WATCHDOG=1)
    manager.tell(STATUS="all said")
    _, said = store_of(listening, b"STATUS=all said")
    assert said == [*(b"STATUS=%d" % number for number in range(300)), b"WATCHDOG=1", b"STATUS=all said"]


def test_where_no_thread_can_be_had_at_the_end_it_is_waited_for_all_the_same(
    heard: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listening = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    monkeypatch.setattr(module, "Thread", NoThread)
    for number in range(300):
        manager.tell(STATUS=number)
    reader = threading.Thread(target=store_of, args=(listening, b"STATUS=299"))
    reader.start()
    manager.close(patience=60)
    reader.join(10)
    assert not reader.is_alive()
    for number in range(300):
        manager.tell(STATUS=number)
    began = time.monotonic()
    manager.close(patience=0.01)  # which nobody hears the end of
    assert time.monotonic() - began < 10


class NoThread:
    """As the kernel has no more of them."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_at_the_end_it_is_waited_for_and_not_for_long(heard: tuple[str, socket.socket]) -> None:
    address, listening = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    for number in range(600):
        manager.tell(STATUS=number)
    reader = threading.Thread(target=store_of, args=(listening, b"STATUS=599"))
    reader.start()
    manager.close(patience=60)
    reader.join(10)
    assert not reader.is_alive()
    for number in range(600):
        manager.tell(STATUS=number)
    manager.close(patience=0.01)  # which nobody hears the end of


def store_of(listening: socket.socket, last: bytes) -> tuple[dict[str, int], list[bytes]]:
    """What who keeps descriptors has of them by name once the last word has come, and all that was said."""
    kept, said = dict[str, int](), list[bytes]()
    while last not in said:
        text, fds, _, _ = socket.recv_fds(listening, 4096, 4)
        said.append(text)
        name = text.decode().partition("FDNAME=")[2].partition("\n")[0]
        if text.startswith(b"FDSTOREREMOVE") and name in kept:
            os.close(kept.pop(name))
        for fd in fds:
            kept[name] = fd
    return kept, said
