"""Reading ahead: the next item is made while the present one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")


def prefetch(items: Iterable[_Item]) -> Iterator[_Item]:
    """Let a thread make the next item while the caller uses the present one.

    At most one item waits, so that memory holds two. When the caller stops early, the item in work
    is made to its end, and no other.

    Args:
      items: made by this thread alone, from the first on.

    Yields:
      The items in their order.

    Raises:
      Exception: that of `items`, in the place of the item that it could not make.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]
