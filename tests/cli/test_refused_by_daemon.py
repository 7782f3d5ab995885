"""What is refused by a command's own wall is refused by the daemon's, in the same words."""

from collections.abc import Iterator

import pytest
from test_commands import (  # noqa: F401  # the same, told through the daemon
    before,
    occupied,
    test_bad_request_is_refused_by_name_and_changes_nothing,
    test_namespace_that_is_attached_and_a_mac_that_is_taken_are_refused,
)

from cellwall.config import recorded_mode
from cellwall.lab import Lab
from client.serving import served

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def by_daemon(lab: Lab) -> Iterator[None]:
    with served(lab) as daemon:
        assert recorded_mode(daemon.paths) == "daemon"
        yield
