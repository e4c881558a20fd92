"""Ctrl-C ends a loop after its current item, and a second one at once."""

import os
import signal
import threading

import pytest

from lib.stage.interrupt import until_interrupted


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_without_ctrl_c_all_items_come_and_the_handler_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    assert list(until_interrupted(range(3))) == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_item_in_which_it_comes_is_finished():
    before, finished = signal.getsignal(signal.SIGINT), []
    for item in until_interrupted(range(5)):
        if item == 1:
            ctrl_c()
        finished.append(item)
    assert finished == [0, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_it_may_come_while_the_next_item_is_waited_for():
    def items():
        yield 0
        thread = threading.Timer(0.1, ctrl_c)
        thread.start()
        threading.Event().wait(0.5)  # the thread that works on the next item
        yield 1
        yield 2

    assert list(until_interrupted(items())) == [0, 1]


def test_a_generator_is_closed_with_what_it_does_ahead():
    closed = []

    def items():
        try:
            yield from range(5)
        finally:
            closed.append(True)

    work = items()
    for _ in until_interrupted(work):
        ctrl_c()
    assert closed == [True]


def test_a_second_one_ends_it_at_once():
    before, finished = signal.getsignal(signal.SIGINT), []

    def run():
        for item in until_interrupted(range(5)):
            ctrl_c()
            ctrl_c()
            finished.append(item)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert finished == []
    assert signal.getsignal(signal.SIGINT) is before
