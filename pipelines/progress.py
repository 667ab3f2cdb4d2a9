"""Progress with ETA, read from the output folder, and so the same for every runner."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from features.terminal import StatusLine, duration


@contextlib.contextmanager
def progress_line(what: str, total: int, count_done: Callable[[], int]) -> Iterator[None]:
    """Show `done/total what` on stderr while the block runs.

    Args:
      what: what is counted, in the plural.
      total: how many there are.
      count_done: counts those that are done; called from another thread.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(what, total, count_done, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(what: str, total: int, count_done: Callable[[], int], stop: threading.Event) -> None:
    line = StatusLine()
    start, already_done = time.monotonic(), count_done()
    while not stop.wait(line.every_seconds):
        done, elapsed = count_done(), time.monotonic() - start
        text = f"{done}/{total} {what}, {duration(elapsed)}"
        if already_done < done < total:
            left = elapsed / (done - already_done) * (total - done)
            text += f", about {duration(left)} left"
        line.show(text)
    line.close()
