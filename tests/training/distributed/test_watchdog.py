"""The life of a watchdog, and what it does to a process that waits too long."""

import math
import subprocess
import sys
import threading

from training.distributed.watchdog import LOST_PEER, Watchdog

WAITS_TOO_LONG = """
import time
from training.distributed.watchdog import Watchdog
with Watchdog(1) as watchdog:
    with watchdog.waiting_for("the first worker"):
        pass
    time.sleep(2)  # not limited
    with watchdog.waiting_for("the second worker"):
        time.sleep(60)
"""


def test_a_watchdog_watches_from_entry_to_exit_of_its_block() -> None:
    before = set(threading.enumerate())
    watchdog = Watchdog(math.inf)
    assert set(threading.enumerate()) == before
    with watchdog:
        (thread,) = set(threading.enumerate()) - before
        assert thread.is_alive()
    thread.join(5)
    assert not thread.is_alive()


def test_a_wait_beyond_its_limit_ends_the_process_with_a_message() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS_TOO_LONG],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == LOST_PEER
    assert "error: the second worker did not appear within 1 s; run the same" in done.stderr
