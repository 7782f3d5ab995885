"""Connections never take the last descriptor."""

import resource

from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.descriptors import within


def test_where_descriptors_are_few_connections_are_fewer() -> None:
    assert within(Bounds(), 1024).connections == 256
    assert within(Bounds(), 64).connections == 16


def test_where_there_are_many_connections_are_as_bounded() -> None:
    assert within(Bounds(), 65536) == within(Bounds(), resource.RLIM_INFINITY) == Bounds()
