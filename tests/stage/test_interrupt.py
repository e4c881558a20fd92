"""Ctrl-C ends a loop after its current item, and a second one at once."""

import os
import signal
import threading

import pytest

from lib.stage.interrupt import HeldBack


@pytest.fixture(autouse=True)
def terminal():
    """Python's own handler, which a process in the background does not get from its shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_without_ctrl_c_all_items_come_and_the_handler_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    with HeldBack() as interrupt:
        assert list(interrupt.until(range(3))) == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupt.came


def test_the_item_in_which_it_comes_is_finished_and_what_follows_is_done():
    before, finished = signal.getsignal(signal.SIGINT), []
    with HeldBack() as interrupt:
        for item in interrupt.until(range(5)):
            if item == 1:
                ctrl_c()
            finished.append(item)
        assert list(interrupt.until(finished)) == [0, 1]
    assert finished == [0, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_between_two_loops_it_ends_neither():
    with HeldBack() as interrupt:
        first = list(interrupt.until(range(3)))
        ctrl_c()
        assert list(interrupt.until(first)) == [0, 1, 2]
    assert interrupt.came


def test_it_may_come_while_the_next_item_is_waited_for():
    def items():
        yield 0
        thread = threading.Timer(0.1, ctrl_c)
        thread.start()
        threading.Event().wait(0.5)  # the thread that works on the next item
        yield 1
        yield 2

    with HeldBack() as interrupt:
        assert list(interrupt.until(items())) == [0, 1]


def test_a_generator_is_closed_with_what_it_does_ahead():
    closed = []

    def items():
        try:
            yield from range(5)
        finally:
            closed.append(True)

    work = items()
    with HeldBack() as interrupt:
        for _ in interrupt.until(work):
            ctrl_c()
    assert closed == [True]


@pytest.mark.parametrize("place", ["in the loop", "after it"])
def test_a_second_one_ends_it_at_once(place):
    before, finished = signal.getsignal(signal.SIGINT), []

    def run():
        with HeldBack() as interrupt:
            for item in interrupt.until(range(5)):
                ctrl_c()
                if place == "in the loop":
                    ctrl_c()
                finished.append(item)
            ctrl_c()
            finished.append("after")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert finished == ([] if place == "in the loop" else [0])
    assert signal.getsignal(signal.SIGINT) is before
