"""One table: names and places are unique, and every place can be named."""

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from cellwall.wire.calls import CALLS, SHOW, path_of


def test_every_call_has_its_own_name_and_place() -> None:
    assert len({call.name for call in CALLS}) == len(CALLS)
    assert len({(call.method, call.path) for call in CALLS}) == len(CALLS)
    assert all(call.path.startswith("/v1/") for call in CALLS)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_parameter_stays_one_segment_whatever_is_in_it(container: str, ifname: str) -> None:
    path = path_of(SHOW, container=container, ifname=ifname)
    *_, first, second = path.split("/")
    assert path.count("/") == 4
    assert (unquote(first, errors="surrogatepass"), unquote(second, errors="surrogatepass")) == (container, ifname)
    assert {first, second}.isdisjoint({".", ".."})
