"""Kernel settings of whatever namespace the thread is in."""

import pytest

from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.errors import InvalidSpec

from .conftest import Namespace

pytestmark = pytest.mark.root


def test_dotted_and_slashed_names_are_the_same_setting(node: Namespace) -> None:
    sysctls = ProcSysctls()
    assert sysctls.write("net.ipv4.conf.lo.rp_filter", "2")
    assert sysctls.read("net/ipv4/conf/lo/rp_filter") == "2"


def test_interface_with_a_dot_has_its_setting_by_the_slashed_name(node: Namespace) -> None:
    node.run("ip link add eth0.5 type bridge")
    sysctls = ProcSysctls()
    assert sysctls.write("net/ipv4/conf/eth0.5/forwarding", "1")
    assert sysctls.read("net/ipv4/conf/eth0.5/forwarding") == "1"


def test_setting_belongs_to_the_namespace_of_the_thread(node: Namespace) -> None:
    sysctls = ProcSysctls()
    sysctls.write("net.ipv4.ip_forward", "1")
    other = Namespace()
    try:
        with other.entered():
            assert sysctls.read("net.ipv4.ip_forward") == "0"
    finally:
        other.close()
    assert sysctls.read("net.ipv4.ip_forward") == "1"


def test_absent_setting_is_none_and_cannot_be_written(node: Namespace) -> None:
    assert ProcSysctls().read("net.ipv4.conf.nothing.forwarding") is None
    assert not ProcSysctls().write("net.ipv4.conf.nothing.forwarding", "1")


def test_value_that_the_kernel_refuses_is_not_written(node: Namespace) -> None:
    assert not ProcSysctls().write("net.ipv6.conf.lo.addr_gen_mode", "no number")


@pytest.mark.parametrize("name", ["", "net/../../etc/passwd", "net/./x", "/etc/passwd", "net//x", "a\0b", "net/"])
def test_name_that_leaves_the_tree_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec):
        ProcSysctls().read(name)
    with pytest.raises(InvalidSpec):
        ProcSysctls().write(name, "1")
