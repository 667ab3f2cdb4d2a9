"""CPU time of an hour of sound, by container and codec and by stage.

The cost of a stage is the difference between two prefixes of the job: a bare PyAV loop; our reader
at 16 kHz, mono; the whole job, without its start. `log-mel and write` has the process of the
decoder, records, checksums and Beam, which are less than the error of a difference. The least of
several rounds counts, because other work on the machine only adds to it. A negative cost fails the
run, and so does a last stage that costs less than the log-mel of as much noise alone.

    python -m tests.benchmarks.codecs --quick
"""

import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from features.front_end.front_end import FrontEnd
from features.sound.waveform import RESAMPLER, read_waveform
from pipelines.runtime.decoder import MEMORY_SETTINGS
from tests.benchmarks import job, log_mel
from tests.benchmarks.measurement import Lane, is_quick, make_table, report, require_possible
from tests.benchmarks.soundtracks import KINDS, Kind, write_soundtrack

# The paper's collection (section 2).
PAPER_HOURS = 5.24e6
STAGES = ("decode", "resample", "log-mel and write")
QUICK_KINDS = ("wav", "mp4/AAC", "webm/Opus")
FRONT_END = FrontEnd(resampler=RESAMPLER)


def read(media: Path) -> None:
    """Read the soundtrack as mono blocks at 16 kHz."""
    for _ in read_waveform(str(media), sample_rate_hz=FRONT_END.log_mel.sample_rate_hz):
        pass


def repeated(function: Callable[..., None], times: int, *args: object) -> None:
    """Call a function several times, for short files."""
    for _ in range(times):
        function(*args)


def measure(
    kind: Kind, folder: Path, minutes: float, num_rounds: int, working: Lane, extracting: Lane
) -> dict[str, float]:
    """CPU seconds per hour of sound, by stage."""
    folder.mkdir()
    media = folder / f"soundtrack{kind.suffix}"
    times = max(1, round(15 / minutes))  # a measurement takes about a second
    write = functools.partial(write_soundtrack, minutes=minutes, base_seconds=15.0)
    working(write, media, kind)
    make = functools.partial(job.make_dataset, num_few=1, num_more=times)
    _, dataset = working(make, folder / "data", media)
    output = folder / "features"
    # Warm-up.
    extracting(functools.partial(job.extract, larger=False), dataset, output, "--workers=1")
    working(read, media)
    working(log_mel.transform, "ours")
    _, num_samples = working(job.decode_only, media)
    hours = times * num_samples / kind.sample_rate / 3_600

    rounds = []
    for _ in range(num_rounds):
        decode = working(job.decode_only, media, times)[0]
        resample = working(repeated, read, times, media)[0]
        transform = working(log_mel.transform, "ours")[0] * hours * 3_600 / log_mel.SECONDS
        more, few = job.steady_cpu_seconds(extracting, dataset, output)
        rounds.append((decode, resample, transform, more + few, few))
    decode, resample, transform, all_of_them, few = map(min, zip(*rounds, strict=True))
    prefixes = (decode, resample, all_of_them - few)
    totals = {stage: cpu / hours for stage, cpu in zip(STAGES, prefixes, strict=True)}
    below, least = [0.0, *totals.values()], [0.0, 0.0, transform / hours]
    result = {
        stage: require_possible(f"{kind.name}: {stage}", totals[stage] - less, at_least=bound)
        for stage, less, bound in zip(STAGES, below, least, strict=False)
    }
    result["log_mel"] = transform / hours
    result["whole"] = whole = totals["log-mel and write"]
    result["over_decode"] = whole / totals["decode"]
    result["core_hours"] = whole * PAPER_HOURS / 3_600
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    names, lengths, num_rounds = (QUICK_KINDS, [5], 3) if quick else (tuple(KINDS), [5, 60], 3)
    results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Lane(MEMORY_SETTINGS) as working,
        Lane() as extracting,
    ):
        for minutes in lengths:
            for index, name in enumerate(names):
                place = Path(folder, f"{index}-{minutes}")
                results[f"{name} {minutes} min"] = measure(
                    KINDS[name], place, minutes, num_rounds, working, extracting
                )
    header = ["CPU s per audio hour", *STAGES, "log-mel alone", "whole", "over decode"]
    header.append("5.24M hours, core-hours")
    rows = [[name, *result.values()] for name, result in results.items()]
    report(
        {name: {k: round(v, 3) for k, v in result.items()} for name, result in results.items()},
        {"stages": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
