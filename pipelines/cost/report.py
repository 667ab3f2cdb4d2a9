"""Text of a prediction, and of its comparison with an extraction, in lines of 80 columns."""

import textwrap
from collections.abc import Iterator

from features.contracts.documents import Features, Scores, ScoringWork, Work
from features.front_end.params import LogMelParams
from features.terminal import duration
from pipelines.cost.estimate import CONFIDENCE, Range, add, scale
from pipelines.cost.networks import NetworkPrediction
from pipelines.cost.prediction import (
    PAPER_HOURS,
    PAPER_LABELS,
    PAPER_VIDEOS,
    Prediction,
    scale_to_paper,
)
from pipelines.cost.prices import Platform, Prices
from pipelines.cost.sample import Corpus, Sample

_INTERVAL = f"{CONFIDENCE:.0%} interval"
_OTHER_MACHINE = "half to twice, another machine"


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
    yield f"{'kind':24}{'videos':>9}{'sampled':>9}{'CPU seconds per hour of sound':>32}"
    hop_hours = LogMelParams().patch_hop_seconds / 3600
    for kind, stratum in sample.strata.items():
        hours = max(sample.num_patches[kind].sum(), 1) * hop_hours
        cost = sample.cpu_seconds[kind].sum() / hours
        yield f"{kind:24}{len(stratum.sizes):>9,}{len(stratum.sampled):>9}{cost:>32.2f}"


def describe_prediction(prediction: Prediction, prices: Prices) -> Iterator[str]:
    """Describe a prediction and its cost on every platform."""
    yield ""
    yield _header("extraction" if prediction.network_jobs else "")
    unit, seconds = _choose_unit(prediction.cpu_seconds)
    yield _format_range(f"CPU, core {unit}", scale(prediction.cpu_seconds, 1 / seconds))
    yield _format_wall(prediction.wall_seconds, prediction.num_workers, "workers")
    yield _format_range("sound, hours", prediction.audio_hours)
    yield _format_range("output, GB", scale(prediction.num_bytes, 1e-9))
    yield f"{'shards':24}{prediction.num_shards:>14,}"
    for name, platform in prices.platforms.items():
        dollars = _price_cores(prediction.cpu_seconds, platform)
        yield _format_range(f"$ {name}", dollars, f"  list, {platform.as_of}")
    yield _format_storage("$ a month, storage", prediction.num_bytes, prices)
    for job in prediction.network_jobs:
        yield from _describe_network_job(job, prediction.num_workers, prices)
    if prediction.network_jobs:
        yield ""
        yield _header("all of it", "sum of the ranges")
        for name in prices.platforms:
            yield _format_range(f"$ {name}", total_dollars(prediction, prices, name))


def describe_paper_scale(prediction: Prediction, prices: Prices) -> Iterator[str]:
    """Describe a prediction at the size of the paper's corpus."""
    yield ""
    yield (
        f"The paper's corpus: {PAPER_VIDEOS:,} videos, {PAPER_HOURS:,.0f} hours, "
        f"{PAPER_LABELS:,} labels"
    )
    yield from describe_prediction(scale_to_paper(prediction), prices)


def describe_old_prices(prices: Prices, year: int) -> Iterator[str]:
    """Name the prices of earlier years."""
    old = list(prices.list_older(year))
    if old:
        yield from textwrap.wrap(f"older prices, compare with your bill: {', '.join(old)}", 80)


def _describe_network_job(
    job: NetworkPrediction, num_workers: int, prices: Prices
) -> Iterator[str]:
    """Describe scoring or training."""
    speed = job.speed
    device = "core" if job.is_on_cpu else "GPU"
    yield ""
    yield _header(speed.job, _INTERVAL if job.is_measured else _OTHER_MACHINE)
    yield f"  {speed}"
    yield f"  {format_number(speed.patches_per_second)} patches a {device} second, {speed.as_of}"
    yield f"  {speed.machine}"
    yield f"  {speed.source}"
    unit, seconds = _choose_unit(job.device_seconds)
    yield _format_range(f"{device} {unit}", scale(job.device_seconds, 1 / seconds))
    yield _format_wall(job.wall_seconds, num_workers, f"{device}s")
    yield _format_range("patches", job.num_patches)
    if job.split is not None:
        yield _format_range(f"scores of {job.split}, GB", scale(job.num_bytes, 1e-9))
        yield _format_storage("$ a month, storage", job.num_bytes, prices)
    else:
        yield _format_range("read, GB", scale(job.num_bytes, 1e-9))
    if not job.is_on_cpu:
        as_of = prices.gpus[speed.device].as_of
        yield _format_range(f"$ {speed.device}", _price_gpus(job, prices), f"  list, {as_of}")
        return
    for name, platform in prices.platforms.items():
        dollars = _price_cores(job.device_seconds, platform)
        yield _format_range(f"$ {name}", dollars, f"  list, {platform.as_of}")


def total_dollars(prediction: Prediction, prices: Prices, name: str) -> Range:
    """The cost of all jobs of a prediction, without storage.

    Args:
      prediction: of extraction, and of scoring and training if they were asked for.
      prices: the table.
      name: of the platform for all that runs on cores.
    """
    platform = prices.platforms[name]
    on_cores = [job.device_seconds for job in prediction.network_jobs if job.is_on_cpu]
    on_gpus = [_price_gpus(job, prices) for job in prediction.network_jobs if not job.is_on_cpu]
    return add([_price_cores(add([prediction.cpu_seconds, *on_cores]), platform), *on_gpus])


def _price_cores(seconds: Range, platform: Platform) -> Range:
    return scale(seconds, platform.dollars_per_core_hour / 3600)


def _price_gpus(job: NetworkPrediction, prices: Prices) -> Range:
    return scale(job.device_seconds, prices.gpus[job.speed.device].hour / 3600)


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
    yield from _compare_cpu(prediction.cpu_seconds, share, work.cpu_seconds)
    yield _compare("sound, hours", prediction.audio_hours, hours)
    yield _compare("output, GB", scale(prediction.num_bytes, 1e-9), num_bytes / 1e9)
    yield f"{'shards':24}{prediction.num_shards:>12,}{num_shards:>12,}"
    wall = prediction.wall_seconds[1] * share, work.wall_seconds
    yield _compare_wall(*wall, f"{prediction.num_workers:,} and {work.num_workers:,} workers")


def describe_scoring_comparison(
    prediction: Prediction, predicted: NetworkPrediction, scores: Scores, work: ScoringWork
) -> Iterator[str]:
    """Describe a prediction beside the scoring that followed.

    Args:
      prediction: of the data set.
      predicted: its scoring, on cores.
      scores: the real one.
      work: its cost.
    """
    share = work.num_patches / scores.num_patches
    if share < 1:
        yield f"the last run scored {work.num_patches:,} of {scores.num_patches:,} patches"
    yield from _compare_cpu(predicted.device_seconds, share, work.cpu_seconds)
    yield _compare("patches", predicted.num_patches, scores.num_patches)
    wall = predicted.wall_seconds[1] * share, work.wall_seconds
    yield _compare_wall(*wall, f"{prediction.num_workers:,} cores, {work.num_workers:,} processes")


def _compare_cpu(predicted: Range, share: float, real: float) -> Iterator[str]:
    unit, seconds = _choose_unit(predicted)
    yield f"{'':24}{'predicted':>12}{'real':>12}   {_INTERVAL}"
    yield _compare(f"CPU, core {unit}", scale(predicted, share / seconds), real / seconds)


def _compare(name: str, predicted: Range, real: float) -> str:
    low, best, high = predicted
    # A range without width is of a sample of everything, up to the last bits.
    is_within = low * (1 - 1e-9) <= real <= high * (1 + 1e-9)
    within = "within" if is_within else "outside"
    interval = f"{format_number(low)} to {format_number(high)}"
    return f"{name:24}{format_number(best):>12}{format_number(real):>12}   {interval:22}{within}"


def _compare_wall(predicted: float, real: float, workers: str) -> str:
    return f"{'wall':24}{duration(predicted):>12}{duration(real):>12}   {workers}"


def format_number(value: float) -> str:
    """A number with three digits, or all digits of the integer part."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _header(title: str, interval: str = _INTERVAL) -> str:
    return f"{title:24}{'predicted':>14}   {interval}"


def _format_range(name: str, values: Range, note: str = "") -> str:
    low, best, high = map(format_number, values)
    return f"{name:24}{best:>14}   {f'{low} to {high}':24}{note}".rstrip()


def _format_wall(seconds: Range, num_workers: int, what: str) -> str:
    low, best, high = map(duration, seconds)
    return f"{f'wall, {num_workers:,} {what}':24}{best:>14}   {low} to {high}"


def _format_storage(name: str, num_bytes: Range, prices: Prices) -> str:
    dollars = scale(num_bytes, prices.storage.gb_month / 1e9)
    return _format_range(name, dollars, f"  list, {prices.storage.as_of}")


def _choose_unit(seconds: Range) -> tuple[str, int]:
    """Name and seconds of a unit for the time of cores or GPUs."""
    return ("hours", 3600) if seconds[1] >= 3600 else ("seconds", 1)
