"""Results in order from threads, at most one more than threads waiting, errors at their place."""

import threading

import pytest

from lib.parallel.ahead import ahead


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_only_so_many_items_are_taken_in_advance(threads):
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    results = ahead(lambda i: i * i, items(), threads)
    for done in range(10):
        assert next(results) == done * done
        assert len(taken) == min(done + threads + 1, 10)
    assert list(results) == []


def test_each_thread_starts_once():
    started = []
    assert list(ahead(str, range(20), 2, lambda: started.append(threading.get_ident()))) == [str(i) for i in range(20)]
    assert 1 <= len(started) == len(set(started)) <= 2


def test_an_error_is_raised_at_its_item():
    results = ahead(lambda i: 1 // i, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
