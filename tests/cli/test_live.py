"""The live display of `top`, over a report that is another one each time it is read."""

import os
import signal
import sys

import pytest
from test_top import terminal

ORDERS = ("packets", "connections", "denied", "name", "bytes")
PROGRAM = """
import sys
from cellwall.cli.live import show
from cellwall.model.endpoint import EndpointKey
from cellwall.model.figures import EndpointTraffic, Traffic, TrafficReport

reads = 0

def read():
    global reads
    reads += 1
    sent = 100 * reads * (reads + 1) // 2
    rows = [EndpointTraffic(EndpointKey(f"box{n}"), "acme", Traffic(sent, reads, 0, 0), n, None) for n in range(40)]
    return TrafficReport(float(reads), tuple(rows))

show(read, float(sys.argv[1]), "bytes", tenants=False)
print("reads:", reads)
"""
"""Each sandbox sends 200 bytes in the first second, 300 in the second, and so on."""


def program(interval: float) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(interval)]


def test_each_look_shows_what_passed_since_the_look_before() -> None:
    with terminal(program(0.2)) as screen:
        for shown in (b" 200B", b" 300B", b" 400B"):
            screen.until(shown)
        assert b" 250B" not in screen.seen, "which it was on the average"


def test_a_key_is_no_look_and_there_is_an_order_for_each() -> None:
    with terminal(program(60)) as screen:
        screen.until(b"by bytes")
        for order in ORDERS:
            screen.press("s")
            screen.until(b"by " + order.encode())
        screen.press("q")
        assert screen.ended() == 0
        assert b"reads: 1\r" in screen.seen


def test_what_has_no_room_on_the_screen_is_counted() -> None:
    with terminal(program(60)) as screen:
        screen.until(b"by bytes")
        assert b"13 more" in screen.seen and screen.seen.count(b"box") == 27


@pytest.mark.parametrize("key", [b"\xff", b"\x1bOq", b"x"])
def test_other_keys_do_nothing(key: bytes) -> None:
    with terminal(program(60)) as screen:
        screen.until(b"by bytes")
        screen.seen = b""
        os.write(screen.screen, key)
        screen.until(b"by bytes")  # it is drawn anew
        screen.press("s")
        screen.until(b"by packets")


def test_without_a_keyboard_it_goes_on_until_a_signal() -> None:
    with terminal(program(0.2), keys=False) as screen:
        screen.until(b" 300B")
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() != 0
