"""The thin plugin's own words: a request that any server reads as it was meant, an answer that is whole or none."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.cni.thin import MISSING, message_of, parse_answer

VALUES = st.just(b"ADD") | st.binary(max_size=40).filter(lambda value: b"\0" not in value)
NAMES = st.sampled_from([b"CNI_COMMAND", b"CNI_ARGS", b"CNI_IFNAME", b"CELLWALL_ROOT", b"CNI_PATH", b"HOME", b"PATH"])


@given(environ=st.dictionaries(NAMES, VALUES), raw=st.binary(max_size=99))
def test_what_a_server_reads_is_what_the_runtime_said(environ: dict[bytes, bytes], raw: bytes) -> None:
    head, _, body = message_of(environ, raw).partition(b"\r\n\r\n")
    assert body == raw
    first, *fields = head.decode("ascii").split("\r\n")
    method, target, version = first.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    assert f"Content-Length: {len(raw)}" in fields
    query = parse_qsl(urlsplit(target).query, keep_blank_values=True, encoding="latin-1")
    told = [b"CELLWALL_ROOT", b"CNI_COMMAND", b"CNI_IFNAME"]
    told += [b"CNI_ARGS"] if environ.get(b"CNI_COMMAND") == b"ADD" else []
    said = {name: value for name, value in environ.items() if name in told}
    assert {name.encode(): value.encode("latin-1") for name, value in query} == said


def test_a_namespace_is_named_for_a_process_of_another_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    assert b"CNI_NETNS=/proc/1/ns/net " in message_of({b"CNI_NETNS": b"1/ns/net"}, b"")
    assert b"CNI_NETNS=/proc/2/ns/net " in message_of({b"CNI_NETNS": b"/proc/2/ns/net"}, b"")
    assert b"CNI_NETNS= " in message_of({b"CNI_NETNS": b""}, b"")


WHOLE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-LENGTH: 5\r\n\r\n{"a"}'


def test_a_whole_answer_is_told_from_a_part_of_one() -> None:
    assert parse_answer(WHOLE) == (200, b'{"a"}')
    for length in range(len(WHOLE)):
        assert parse_answer(WHOLE[:length]) == (MISSING, b"")
    assert parse_answer(WHOLE + b"more") == (MISSING, b"")
    assert parse_answer(b"HTTP/1.1 422 X\r\nContent-Length: 0\r\n\r\n") == (422, b"")
    assert parse_answer(b"220 smtp ready\r\n") == (MISSING, b"")
