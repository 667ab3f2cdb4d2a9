"""Text of a prediction, and of its comparison with an extraction, in lines of 80 columns."""

from collections.abc import Iterator

from features.contracts.documents import Features, Work
from features.front_end.params import LogMelParams
from features.terminal import duration
from pipelines.cost.estimate import CONFIDENCE, Range, scale
from pipelines.cost.prediction import Prediction
from pipelines.cost.prices import Prices
from pipelines.cost.sample import Corpus, Sample


def describe_sample(corpus: Corpus, sample: Sample) -> Iterator[str]:
    """Describe what was measured."""
    num_sampled = sum(len(stratum.sampled) for stratum in sample.strata.values())
    yield (
        f"{num_sampled} of {corpus.num_videos} videos measured on {sample.num_workers} workers in "
        f"{duration(sample.wall_seconds)}"
    )
    if corpus.num_absent:
        yield f"  {corpus.num_absent} videos have no file and cost nothing"
    for outcome, count in sample.rejects.items():
        yield f"  rejected: {count} {outcome}"
    yield ""
    yield f"{'kind':12}{'videos':>9}{'sampled':>9}{'CPU seconds per hour of sound':>32}"
    hop_hours = LogMelParams().patch_hop_seconds / 3600
    for kind, stratum in sample.strata.items():
        hours = max(sample.num_patches[kind].sum(), 1) * hop_hours
        cost = sample.cpu_seconds[kind].sum() / hours
        yield f"{kind:12}{len(stratum.sizes):>9,}{len(stratum.sampled):>9}{cost:>32.2f}"


def describe_prediction(prediction: Prediction, prices: Prices) -> Iterator[str]:
    """Describe a prediction and its cost on every platform."""
    yield ""
    yield f"{'':24}{'predicted':>14}   {CONFIDENCE:.0%} interval"
    unit, seconds = _choose_unit(prediction)
    yield _format_range(f"CPU, core {unit}", scale(prediction.cpu_seconds, 1 / seconds))
    low, best, high = (duration(seconds) for seconds in prediction.wall_seconds)
    yield f"{f'wall, {prediction.num_workers:,} workers':24}{best:>14}   {low} to {high}"
    yield _format_range("sound, hours", prediction.audio_hours)
    yield _format_range("output, GB", scale(prediction.num_bytes, 1e-9))
    yield f"{'shards':24}{prediction.num_shards:>14,}"
    for name, platform in prices.platforms.items():
        dollars = scale(prediction.cpu_seconds, platform.dollars_per_core_hour / 3600)
        yield _format_range(f"$ {name}", dollars, f"  list, {platform.as_of}")
    stored = scale(prediction.num_bytes, prices.storage.gb_month / 1e9)
    yield _format_range("$ a month, storage", stored, f"  list, {prices.storage.as_of}")


def describe_comparison(prediction: Prediction, features: Features, work: Work) -> Iterator[str]:
    """Describe a prediction beside the extraction that followed.

    Args:
      prediction: of the data set.
      features: the extraction.
      work: its cost.
    """
    # Shards that an earlier run finished did not cost anything in this run.
    share = work.num_decoded / features.num_videos
    if share < 1:
        yield f"the last run decoded {work.num_decoded:,} of {features.num_videos:,} videos"
    num_bytes = sum(split.num_bytes for split in features.splits.values())
    num_shards = sum(sum(split.num_shards.values()) for split in features.splits.values())
    hours = features.num_patches * features.front_end.patch_hop_seconds / 3600
    unit, seconds = _choose_unit(prediction)
    yield f"{'':24}{'predicted':>12}{'real':>12}   {CONFIDENCE:.0%} interval"
    for name, values, real in (
        (
            f"CPU, core {unit}",
            scale(prediction.cpu_seconds, share / seconds),
            work.cpu_seconds / seconds,
        ),
        ("sound, hours", prediction.audio_hours, hours),
        ("output, GB", scale(prediction.num_bytes, 1e-9), num_bytes / 1e9),
    ):
        low, best, high = values
        within = "within" if low <= real <= high else "outside"
        interval = f"{format_number(low)} to {format_number(high)}"
        yield (
            f"{name:24}{format_number(best):>12}{format_number(real):>12}   {interval:22}{within}"
        )
    yield f"{'shards':24}{prediction.num_shards:>12,}{num_shards:>12,}"
    wall_seconds = prediction.wall_seconds[1] * share, work.wall_seconds
    cells = "".join(f"{duration(seconds):>12}" for seconds in wall_seconds)
    yield f"{'wall':24}{cells}   {prediction.num_workers:,} and {work.num_workers:,} workers"


def format_number(value: float) -> str:
    """A number with three digits, or all digits of the integer part."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _format_range(name: str, values: Range, note: str = "") -> str:
    low, best, high = map(format_number, values)
    return f"{name:24}{best:>14}   {f'{low} to {high}':24}{note}".rstrip()


def _choose_unit(prediction: Prediction) -> tuple[str, int]:
    """Name and seconds of a unit for CPU time."""
    return ("hours", 3600) if prediction.cpu_seconds[1] >= 3600 else ("seconds", 1)
