"""What the extraction of a corpus will cost, measured on a sample of it on this machine.

python -m pipelines.plan --dataset dataset --max-cost 50 && python -m pipelines.extract_features ..
python -m pipelines.plan --actual features
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from features.contracts import folders, sharding
from features.contracts.videos import VIDEO_FILES
from features.errors import OK, InputError, JobFailedError, run_command
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from features.storage import files
from features.terminal import duration
from pipelines.cost import sample
from pipelines.cost.estimate import CONFIDENCE, Estimate, estimate_total
from pipelines.cost.prices import Prices, read_prices
from pipelines.cost.sample import Corpus, Trial
from pipelines.extraction.patches import Mode, Settings
from pipelines.runtime import process_pool

# Written into the data set, for `--actual`.
PREDICTION = "prediction.json"
# The paper's corpus (section 2): 70M videos, 5.24M hours, 30,871 labels.
_PAPER_VIDEOS, _PAPER_HOURS, _PAPER_LABELS = 70_000_000, 5_240_000.0, 30_871

_DESCRIPTION = """\
Extract a sample of a corpus on all cores of this machine, into a folder that is
thrown away, and predict what all of it will take: CPU hours, wall time, output,
dollars, with their 90 % intervals. Nothing is started. Exit code 1 where the
dollars may be more than --max-cost, so that && starts what can be afforded.
"""
_EPILOG = f"""\
A core of this machine is taken for a virtual CPU of the platform. The
prediction is kept as {PREDICTION} in the data set; --actual then prints it
beside what the extraction really took.
"""

# A prediction is its lower end, the best guess, and its upper end.
Range = tuple[float, float, float]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.plan",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="DIR", help="folder made by pipelines.prepare_dataset")
    source.add_argument(
        "--manifest",
        metavar="FILE",
        help="of the columns id, uri, labels, without making a data set of it",
    )
    source.add_argument(
        "--actual",
        metavar="DIR",
        help="folder made by pipelines.extract_features: print the prediction beside what it took",
    )
    add("--workers", metavar="N", type=int, help="for the wall time; default: this machine's cores")
    add("--sample", metavar="K", type=int, default=64, help="videos to measure; default: 64")
    add("--seed", type=int, default=0, help="of the sample; default: 0")
    add("--patches-per-video", metavar="K", type=int, help="as in pipelines.extract_features")
    add("--prices", metavar="FILE", help="a table of prices; default: pipelines/cost/prices.json")
    add("--platform", metavar="NAME", help="of the table, for --max-cost; default: its dearest")
    add(
        "--max-cost",
        metavar="DOLLARS",
        type=float,
        help="fail where the upper end of the cost of computing is above this",
    )
    add("--scale", choices=("paper",), help="also predict for the paper's corpus, of the same mix")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.actual is not None:
        print("\n".join(_compared(files.absolute(args.actual))))
        return OK
    for flag, value in (("--sample", args.sample), ("--workers", args.workers or 1)):
        if value < 1:
            raise InputError(f"{flag}: received {value}; give 1 or more")
    prices = read_prices(args.prices)
    if args.platform is not None and args.platform not in prices.platforms:
        known = ", ".join(prices.platforms)
        raise InputError(f"--platform: received {args.platform!r}; the table has {known}")
    with tempfile.TemporaryDirectory() as temporary:
        source = files.absolute(args.dataset or _prepared(args.manifest, temporary))
        data = folders.read_root(source, folders.DATASET)
        groups = {split: entry["num_shards"] for split, entry in data["splits"].items()}
        corpus = sample.read_corpus(files.list_files(source, VIDEO_FILES), groups)
    if not corpus.videos:
        raise InputError(f"{source}: none of the files of {corpus.num_videos} videos is there")
    settings = Settings(
        FrontEnd(resampler=RESAMPLER, storage=PatchStorage()),
        seed=0,
        keep_partial=False,
        patches_per_video=args.patches_per_video,
    )
    here = process_pool.default_workers()
    tried = sample.measure(
        corpus, settings, Mode(), num_sampled=args.sample, num_workers=here, seed=args.seed
    )
    num_shards = sum(sum(counts.values()) for counts in groups.values())
    hop_hours = settings.front_end.log_mel.patch_hop_seconds / 3600
    prediction = {
        "made_by": dataclasses.asdict(folders.made_by()),
        "dataset_fingerprint": data["fingerprint"],
        "patches_per_video": args.patches_per_video,
        "num_videos": corpus.num_videos,
        "num_workers": args.workers or here,
        "num_shards": num_shards,
        **predict(tried, num_shards, args.workers or here, hop_hours),
    }
    if args.dataset is not None:
        path = files.join(source, PREDICTION)
        files.write_bytes(path, json.dumps(prediction, indent=2).encode())
    print("\n".join(_as_text(corpus, tried, hop_hours, prediction, prices)))
    if args.scale == "paper":
        print("\n".join(_paper_scale(tried, hop_hours, prediction["num_workers"], prices)))
    if args.max_cost is not None:
        _require_affordable(prediction["cpu_seconds"], args.max_cost, args.platform, prices)
    return OK


def _prepared(manifest: str, folder: str) -> str:
    from pipelines import prepare_dataset  # here, since it imports TensorFlow

    prepare_dataset.main(["--manifest", manifest, "--output", folder])
    return folder


def predict(tried: Trial, num_shards: int, num_workers: int, hop_hours: float) -> dict[str, Range]:
    """The totals of the corpus of a trial: CPU and wall seconds, hours of sound, bytes."""
    cpu = estimate_total(tried.strata, tried.cpu_seconds)
    patches = estimate_total(tried.strata, tried.num_patches)
    cpu_seconds = _range(cpu, tried.drift)
    num_patches = _range(patches, 0.0)
    low, best, high = (_wall_seconds(seconds, num_shards, num_workers) for seconds in cpu_seconds)
    return {
        "cpu_seconds": cpu_seconds,
        "wall_seconds": (low, best, high),
        "audio_hours": _scaled(num_patches, hop_hours),
        "num_bytes": _scaled(num_patches, tried.bytes_per_patch),
    }


def _wall_seconds(cpu_seconds: float, num_shards: int, num_workers: int) -> float:
    """Workers take shards as they are free; at the end most of them wait for the last shard."""
    return cpu_seconds / num_workers + (1 - 1 / num_workers) * cpu_seconds / num_shards


def _range(estimate: Estimate, drift: float) -> Range:
    low, high = estimate.interval(drift)
    return low, estimate.total, high


def _scaled(values: Range, factor: float) -> Range:
    low, best, high = values
    return low * factor, best * factor, high * factor


def _as_text(
    corpus: Corpus,
    tried: Trial,
    hop_hours: float,
    prediction: Mapping[str, Any],
    prices: Prices,
) -> Iterator[str]:
    num_sampled = sum(len(stratum.sampled) for stratum in tried.strata.values())
    yield (
        f"{num_sampled} of {corpus.num_videos} videos tried on {tried.num_workers} workers in "
        f"{duration(tried.wall_seconds)}"
    )
    if corpus.num_absent:
        yield f"  {corpus.num_absent} videos have no file and cost nothing"
    for outcome, count in tried.rejects.items():
        yield f"  rejected: {count} {outcome}"
    yield ""
    yield f"{'':33}CPU seconds per hour of sound"
    stage_names = "".join(f"{name:>10}" for name in ("decode", "log-mel", "write", "all"))
    yield f"{'kind':12}{'videos':>9}{'tried':>8}{stage_names}"
    for kind, stratum in tried.strata.items():
        hours = max(tried.num_patches[kind].sum() * hop_hours, hop_hours)
        stages = [stage[kind].sum() / hours for stage in (tried.decode, tried.log_mel, tried.write)]
        cells = "".join(f"{value:>10.2f}" for value in [*stages, sum(stages)])
        yield f"{kind:12}{len(stratum.sizes):>9,}{len(stratum.sampled):>8}{cells}"
    yield from _totals(prediction, prices)


def _totals(prediction: Mapping[str, Any], prices: Prices) -> Iterator[str]:
    yield ""
    yield f"{'':24}{'predicted':>14}   {CONFIDENCE:.0%} interval"
    unit, seconds = _unit(prediction["cpu_seconds"])
    yield from _line(f"CPU, core {unit}", _scaled(prediction["cpu_seconds"], 1 / seconds))
    num_workers = prediction["num_workers"]
    low, best, high = (duration(seconds) for seconds in prediction["wall_seconds"])
    yield f"{f'wall, {num_workers:,} workers':24}{best:>14}   {low} to {high}"
    yield from _line("sound, hours", prediction["audio_hours"])
    yield from _line("output, GB", _scaled(prediction["num_bytes"], 1e-9))
    yield f"{'shards':24}{prediction['num_shards']:>14,}"
    for name, platform in prices.platforms.items():
        factor = platform.dollars_per_core_hour / 3600
        dollars = _scaled(prediction["cpu_seconds"], factor)
        yield from _line(f"$ {name}", dollars, f"  list, {platform.as_of}")
    stored = _scaled(prediction["num_bytes"], prices.storage.gb_month / 1e9)
    yield from _line("$ a month, storage", stored, f"  list, {prices.storage.as_of}")


def _line(name: str, values: Range, note: str = "") -> Iterator[str]:
    low, best, high = (_number(value) for value in values)
    yield f"{name:24}{best:>14}   {f'{low} to {high}':24}{note}".rstrip()


def _number(value: float) -> str:
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _unit(cpu_seconds: Range) -> tuple[str, int]:
    """A unit of time in which a corpus can be read, and its seconds."""
    return ("hours", 3600) if cpu_seconds[1] >= 3600 else ("seconds", 1)


def _paper_scale(tried: Trial, hop_hours: float, num_workers: int, prices: Prices) -> Iterator[str]:
    """The same mix of files as in the corpus, of the paper's number and length.

    The CPU seconds of an hour are a ratio of two totals. To the first order its error is that of
    the total of what each video costs beyond this ratio times its length (Cochran, chapter 6).
    """
    hours = {kind: values * hop_hours for kind, values in tried.num_patches.items()}
    all_hours = estimate_total(tried.strata, hours).total
    per_hour = estimate_total(tried.strata, tried.cpu_seconds).total / all_hours
    beyond = {kind: cpu - per_hour * hours[kind] for kind, cpu in tried.cpu_seconds.items()}
    error = estimate_total(tried.strata, beyond)
    factor = _PAPER_HOURS / all_hours
    cpu = Estimate(per_hour * _PAPER_HOURS, error.variance * factor**2, error.degrees)
    cpu_seconds = _range(cpu, tried.drift)
    num_shards = sharding.num_shards(_PAPER_VIDEOS, _PAPER_HOURS * 3600, LogMelParams())
    num_bytes = _PAPER_HOURS / hop_hours * tried.bytes_per_patch
    low, best, high = (_wall_seconds(one, num_shards, num_workers) for one in cpu_seconds)
    yield ""
    yield (
        f"The paper's corpus: {_PAPER_VIDEOS:,} videos, {_PAPER_HOURS:,.0f} hours, "
        f"{_PAPER_LABELS:,} labels"
    )
    prediction = {
        "cpu_seconds": cpu_seconds,
        "wall_seconds": (low, best, high),
        "audio_hours": (_PAPER_HOURS, _PAPER_HOURS, _PAPER_HOURS),
        "num_bytes": (num_bytes, num_bytes, num_bytes),
        "num_shards": num_shards,
        "num_workers": num_workers,
    }
    yield from _totals(prediction, prices)


def _require_affordable(
    cpu_seconds: Range, max_cost: float, platform: str | None, prices: Prices
) -> None:
    """Refuse what may cost too much.

    Raises:
      JobFailedError: it may; nothing was started.
    """
    rates = {name: one.dollars_per_core_hour for name, one in prices.platforms.items()}
    name = platform or max(rates, key=rates.__getitem__)
    dollars = rates[name] * cpu_seconds[2] / 3600
    if dollars > max_cost:
        raise JobFailedError(
            f"--max-cost {max_cost:g}: {name} may take {_number(dollars)} dollars (the upper end "
            "of the interval); allow more, extract a --subset, or draw --patches-per-video"
        )


def _compared(features: str) -> Iterator[str]:
    """A prediction beside what came of it.

    Raises:
      InputError: there is no prediction, or it is of another data set.
    """
    made = folders.read_root(features, folders.FEATURES)
    path = files.join(made["dataset"], PREDICTION)
    try:
        prediction = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        raise InputError(
            f"there is no {path}; run `python -m pipelines.plan --dataset {made['dataset']}`"
        ) from None
    for field in ("dataset_fingerprint", "patches_per_video"):
        folders.require_equal(
            field,
            expected=prediction[field],
            received=made[field],
            where=features,
            cure="predict anew, for what is extracted",
        )
    work = made.get("work")
    if work is None:
        raise InputError(f"{features} does not say what it cost; it is of an earlier version")
    # What was kept from a run before did not cost anything in this one.
    share = work["num_decoded"] / made["num_videos"]
    if share < 1:
        yield f"the last run decoded {work['num_decoded']:,} of {made['num_videos']:,} videos"
    num_bytes = sum(split["num_bytes"] for split in made["splits"].values())
    num_shards = sum(sum(split["num_shards"].values()) for split in made["splits"].values())
    hop_hours = LogMelParams().patch_hop_seconds / 3600
    yield f"{'':24}{'predicted':>12}{'real':>12}   {CONFIDENCE:.0%} interval"
    unit, seconds = _unit(prediction["cpu_seconds"])
    cpu = _scaled(prediction["cpu_seconds"], share / seconds)
    for name, values, real in (
        (f"CPU, core {unit}", cpu, work["cpu_seconds"] / seconds),
        ("sound, hours", prediction["audio_hours"], made["num_patches"] * hop_hours),
        ("output, GB", _scaled(prediction["num_bytes"], 1e-9), num_bytes / 1e9),
    ):
        low, best, high = values
        within = "within" if low <= real <= high else "outside"
        interval = f"{_number(low)} to {_number(high)}"
        yield f"{name:24}{_number(best):>12}{_number(real):>12}   {interval:22}{within}"
    yield f"{'shards':24}{prediction['num_shards']:>12,}{num_shards:>12,}"
    predicted = [_scaled(prediction["wall_seconds"], share)[1], work["wall_seconds"]]
    cells = "".join(f"{duration(seconds):>12}" for seconds in predicted)
    counts = f"{prediction['num_workers']:,} and {work['num_workers']:,} workers"
    yield f"{'wall':24}{cells}   {counts}"


if __name__ == "__main__":
    run_command(main)
