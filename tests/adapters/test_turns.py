"""Threads of a daemon take turns in the order in which they asked."""

import threading

from cellwall.adapters.record.turns import FairMutex


def test_who_asks_again_and_again_comes_after_who_has_waited() -> None:
    mutex, order, waiting = FairMutex(), list[str](), threading.Event()

    def wait() -> None:
        waiting.set()
        with mutex:
            order.append("patient")

    patient = threading.Thread(target=wait)
    with mutex:
        patient.start()
        waiting.wait()
        while not mutex.waiting:
            pass
    with mutex:
        order.append("greedy")
    patient.join()
    assert order == ["patient", "greedy"]


def test_a_thread_enters_what_it_is_in() -> None:
    mutex, through = FairMutex(), threading.Event()

    def enter() -> None:
        with mutex:
            through.set()

    other = threading.Thread(target=enter)
    with mutex:
        with mutex:
            other.start()
        while not mutex.waiting:
            pass
        assert not through.is_set()
    other.join()
    assert through.is_set()


def test_who_would_not_wait_enters_what_is_nobodys_or_its_own() -> None:
    mutex, refused = FairMutex(), list[bool]()
    assert mutex.enter_if_free()
    with mutex:
        assert mutex.enter_if_free()
        mutex.__exit__()
    other = threading.Thread(target=lambda: refused.append(mutex.enter_if_free()))
    other.start()
    other.join()
    mutex.__exit__()
    assert refused == [False]
    with mutex:
        pass


def test_one_thread_at_a_time() -> None:
    mutex, inside, most = FairMutex(), [0], [0]

    def work() -> None:
        for _ in range(500):
            with mutex:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, mutex.waiting) == ([1], 0)
