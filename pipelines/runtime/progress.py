"""Progress with remaining time, from the output folder, so for every runner."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from features.terminal import StatusLine, duration

_BAR_COLUMNS = 20


@contextlib.contextmanager
def progress_line(what: str, total: int, count_done: Callable[[], int]) -> Iterator[None]:
    """Show a bar and `done/total what` on stderr while the block runs.

    Args:
      what: plural noun of the counted things.
      total: their number.
      count_done: counts the finished ones; called from another thread.
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
    start, already_done, done = time.monotonic(), count_done(), 0
    pause = line.every_seconds
    while not stop.wait(pause):
        listing = time.monotonic()
        # A job that has ended deletes what is counted.
        done, elapsed = max(done, count_done()), listing - start
        # A listing of many files is slow, and costs money in an object store.
        pause = max(line.every_seconds, 20 * (time.monotonic() - listing))
        bar = "#" * (_BAR_COLUMNS * done // total)
        text = f"[{bar:<{_BAR_COLUMNS}}] {done}/{total} {what}, {duration(elapsed)}"
        if already_done < done < total:
            left = elapsed / (done - already_done) * (total - done)
            text += f", about {duration(left)} left"
        line.show(text)
    line.close()
