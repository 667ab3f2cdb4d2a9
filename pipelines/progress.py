"""A progress line with ETA, read from the output folder, and so the same for every runner."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

_TTY_SECONDS, _LOG_SECONDS = 1.0, 30.0


@contextlib.contextmanager
def progress_line(what: str, total: int, count_done: Callable[[], int]) -> Iterator[None]:
    """Show `done/total what` on stderr while the block runs.

    On a terminal the line is rewritten every second; elsewhere one is printed every half minute.

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
    start, already_done = time.monotonic(), count_done()
    terminal = sys.stderr.isatty()
    while True:
        stopped = stop.wait(_TTY_SECONDS if terminal else _LOG_SECONDS)
        done, elapsed = count_done(), time.monotonic() - start
        line = f"{done}/{total} {what}, {_duration(elapsed)}"
        if already_done < done < total:
            rest = elapsed / (done - already_done) * (total - done)
            line += f", about {_duration(rest)} left"
        if terminal:
            print(f"\r{line:<79}", end="\n" if stopped else "", file=sys.stderr, flush=True)
        elif not stopped or elapsed >= _LOG_SECONDS:
            print(line, file=sys.stderr, flush=True)
        if stopped:
            return


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
