"""Show how far a folder is, what it cost and will cost, and what to do next.

python -m pipelines.status features --watch 60
"""

import argparse
import json
import time
from collections.abc import Sequence

from features.errors import FAILED, OK, InputError, run_command
from features.storage import files
from features.typed_json import to_plain
from pipelines.cost.prices import read_prices
from pipelines.cost.status import describe, read_status

_DESCRIPTION = """\
Look at a DATASET, FEATURES, RUN or SCORES folder, from any machine, while a
job writes it, after --no-wait, or after a crash: done and planned shards, rate,
time left, rejects by reason, the last shards, cost so far and to come, and what
to do next. The folder is listed once; sidecars are not read.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.status",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the --output of a job")
    add(
        "--watch",
        metavar="SECONDS",
        type=float,
        help="look again after so many seconds, until the folder is finished, or its job has "
        "failed, which gives exit code 1",
    )
    add("--json", action="store_true", help="print one line of JSON for each look")
    add("--prices", metavar="FILE", help="table of prices; default: pipelines/cost/prices.json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.watch is not None and args.watch < 1:
        raise InputError(f"--watch: received {args.watch:g}; give 1 or more seconds")
    folder, prices = files.absolute(args.folder), read_prices(args.prices)
    job, changed_at = None, time.monotonic()
    while True:
        status = read_status(folder, prices)
        if status.job != job:
            job, changed_at = status.job, time.monotonic()
        if args.json:
            print(json.dumps(to_plain(status)), flush=True)
        else:
            print("\n".join(describe(status)), flush=True)
        if args.watch is None or status.finished:
            return OK
        is_alive = job and status.job_is_running is not False
        if job and time.monotonic() - changed_at > job.dead_after_seconds:
            is_alive = False  # a lease that workers have left
        if status.failure and not is_alive:
            return FAILED
        time.sleep(args.watch)


if __name__ == "__main__":
    run_command(main)
