"""A network namespace for one try, in a thread that ends with it: nothing of the node's is touched, nothing is left.

Sockets that the thread opens and programs that it starts are in there.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from cellwall.errors import KernelError

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def in_new_namespace(act: Callable[[], T]) -> T:
    """What `act` gives there, or its error. KernelError where no namespace can be made."""
    given: list[T] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise KernelError(number, "make a network namespace", os.strerror(number))
            given.append(act())
        except BaseException as error:  # raised by the thread that waits
            failed.append(error)

    trial = threading.Thread(target=attempt, name="cellwall-throwaway")
    try:
        trial.start()
    except RuntimeError:  # that is how Python tells that the kernel gave none
        raise KernelError(errno.EAGAIN, "make a network namespace", "no thread can be had") from None
    trial.join()
    if failed:
        raise failed[0]
    return given[0]
