"""Claim: memory does not grow with the length of a soundtrack.

The job runs as a command with one worker on one mp4 of three hours (44.1 kHz, stereo, with a video
stream). `peak_mb` is the resident memory of its largest process, `tree_peak_mb` that of all its
processes: their own memory, and each file that they map, such as a library, once and in full, also
where this benchmark maps it too. An mp4 of one minute shows the memory that does not depend on the
length. The patches must equal, bit by bit, those of the whole file decoded
and transformed at once.

    python -m tests.benchmarks.memory --quick
"""

import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.front_end.front_end import FrontEnd
from features.front_end.logmel import log_mel_patches
from features.sound.waveform import RESAMPLER, read_waveform
from tests.benchmarks import job
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    report,
    require_possible,
    run_and_watch_memory,
)
from tests.benchmarks.soundtracks import KINDS, write_soundtrack

KIND = KINDS["mp4/AAC"]
FRONT_END = FrontEnd(resampler=RESAMPLER)


def count_equal(media: Path, output: Path) -> tuple[int, int]:
    """Number of patches of the whole file, and how many of these the job wrote bit by bit."""
    params = FRONT_END.log_mel
    blocks = read_waveform(str(media), sample_rate_hz=params.sample_rate_hz)
    waveform = np.concatenate(list(blocks))
    expected = FRONT_END.storage.encode(log_mel_patches(waveform, params))
    (received,) = job.stored_by_video(output).values()
    assert received.shape == expected.shape, (received.shape, expected.shape)
    return len(expected), int((received == expected).all(axis=(1, 2)).sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    minutes = 30 if is_quick(__doc__, argv) else 180
    rows, peaks = [], {}
    with tempfile.TemporaryDirectory() as temporary, Lane() as lane:
        for length in (1, minutes):
            folder = Path(temporary, str(length))
            folder.mkdir()
            media, output = folder / f"soundtrack{KIND.suffix}", folder / "features"
            lane(functools.partial(write_soundtrack, minutes=length, base_seconds=15), media, KIND)
            make = functools.partial(job.make_dataset, num_few=1, num_more=0)
            _, dataset = lane(make, folder / "data", media)
            command = [sys.executable, "-m", "pipelines.extract_features"]
            command += ["--dataset", str(dataset), "--output", str(output), "--splits", "train"]
            command += ["--workers=1"]
            together, processes = run_and_watch_memory(command)
            largest = sorted((megabytes for _, megabytes in processes.values()), reverse=True)
            # Not all of them have their peaks at once.
            require_possible("MB of all processes", together, at_least=0, at_most=sum(largest))
            peaks[length] = largest[0], together
            rows.append([f"{length} min", together, ", ".join(f"{peak:.0f}" for peak in largest)])
        _, (num_patches, num_equal) = lane(count_equal, media, output)
    assert num_equal == num_patches, f"{num_patches - num_equal} of {num_patches} patches differ"
    header = ["length", "all processes, MB", "each process, MB"]
    report(
        {
            "peak_mb": peaks[minutes][0],
            "tree_peak_mb": peaks[minutes][1],
            "peak_mb_of_one_minute": peaks[1][0],
            "tree_peak_mb_of_one_minute": peaks[1][1],
            "minutes": minutes,
            "equal_patches": num_equal,
        },
        {"peaks": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
