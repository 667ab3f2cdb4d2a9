"""Items made ahead by a thread: order, number, errors, and the end."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.runtime.prefetch import prefetch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_items_come_in_order_from_another_thread() -> None:
    makers = set()

    def make() -> Iterator[int]:
        for item in range(100):
            makers.add(threading.current_thread().name)
            yield item

    assert list(prefetch(make())) == list(range(100))
    assert list(prefetch([])) == []
    assert makers == {"prefetch_0"}
    assert threads() == []


def test_one_item_is_made_ahead_and_no_more() -> None:
    made = 0

    def make() -> Iterator[int]:
        nonlocal made
        for item in range(1, 11):
            made = item
            yield item

    for item in prefetch(make()):
        deadline = time.monotonic() + 60
        while made < min(item + 1, 10):  # it does not wait for this loop
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(0.01)
        assert made == min(item + 1, 10)


def test_an_error_comes_after_the_items_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    items = prefetch(make())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(items)
    assert threads() == []


def test_a_caller_that_stops_ends_the_thread() -> None:
    def make() -> Iterator[int]:
        yield from range(10**9)

    items = prefetch(make())
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert threads() == []
