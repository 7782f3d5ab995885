"""Policies by the command line are the same where a daemon brings them into force."""

from collections.abc import Iterator

import pytest
from test_policy_command import *  # noqa: F403  # the same stories, told through the daemon

from cellwall.config import recorded_mode
from cellwall.lab import Lab
from client.serving import served

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def by_daemon(lab: Lab) -> Iterator[None]:
    with served(lab) as daemon:
        assert recorded_mode(daemon.paths) == "daemon"
        yield
