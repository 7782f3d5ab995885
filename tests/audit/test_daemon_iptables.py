"""The daemon's own record where iptables holds the wall."""

import pytest

from audit.test_daemon import CONFIGURATION, assert_told_to_whom_it_concerns, serving

pytestmark = pytest.mark.root


def test_what_a_sandbox_tries_is_told_to_whom_it_concerns() -> None:
    with serving('backend = "iptables"\n' + CONFIGURATION) as (daemon, world):
        assert "iptables" in daemon.get("/v1/status")["mechanism"]
        assert_told_to_whom_it_concerns(daemon, world)
