"""The results of networks over their seeds: means, intervals and differences."""

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np
import scipy.special

from evaluation.metrics import origins, seeds
from evaluation.metrics.jackknife import Interval, LeftOut
from evaluation.metrics.origins import SharedOrigins
from evaluation.metrics.seeds import SeededMetric
from evaluation.metrics.summary import LEFT_OUT, read_left_out
from evaluation.paper.runs import MetricIntervals, RunResults
from evaluation.paper.tuning import Network
from features import ranking
from features.contracts import folders
from features.contracts.documents import Metrics
from features.errors import ContractError


@dataclasses.dataclass(frozen=True, eq=False)
class SeedReports:
    """The evaluations of a network, one for each seed.

    Attributes:
      results: [seeds], of each run.
      metrics: [seeds], of each report.
      left_out: [seeds], the metrics without each of some videos.
    """

    results: tuple[RunResults, ...]
    metrics: tuple[Metrics, ...]
    left_out: tuple[LeftOut, ...]

    @classmethod
    def read(cls, network: Network, suffix: str) -> "SeedReports":
        """Read the reports in `reportsSUFFIX`.

        Raises:
          ContractError: a report is of a version that did not write what intervals need.
        """
        runs = network.seeds
        reports = [run.report(suffix) for run in runs]
        return cls(
            results=tuple(run.results(suffix) for run in runs),
            metrics=tuple(folders.read_document(report, Metrics) for report in reports),
            left_out=tuple(_read_left_out(report) for report in reports),
        )

    def mean(self) -> RunResults:
        """The means over the seeds; counts, run and command are those of the first."""
        return dataclasses.replace(
            self.results[0],
            auc=statistics.mean(run.auc for run in self.results),
            d_prime=_mean([run.d_prime for run in self.results]),
            map=statistics.mean(run.map for run in self.results),
            accuracy=statistics.mean(run.accuracy for run in self.results),
            patches_per_second=_mean([run.patches_per_second for run in self.results]),
            seconds=_mean([run.seconds for run in self.results]),
            staleness=_mean([run.staleness for run in self.results]),
            intervals=self._intervals(),
        )

    @property
    def num_origins(self) -> int | None:
        """Origins that intervals are by; None if they are by video."""
        return self.metrics[0].intervals.num_origins

    def _intervals(self) -> MetricIntervals:
        videos = _SameVideos.of([self])
        auc = SeededMetric(
            np.array([run.auc for run in self.results]), videos.left_out(self, "mean_auc")
        )
        found = seeds.transformed_interval(
            auc, videos.num_videos, videos.shared, scipy.special.ndtri, scipy.special.ndtr
        )
        return MetricIntervals(
            auc=found,
            d_prime=found and (float(ranking.d_prime(found[0])), float(ranking.d_prime(found[1]))),
            map=seeds.transformed_interval(
                self.map(videos),
                videos.num_videos,
                videos.shared,
                scipy.special.logit,
                scipy.special.expit,
            ),
        )

    def map(self, videos: "_SameVideos", *, sign: int = 1) -> SeededMetric:
        """The mAP of each seed, times the sign."""
        return SeededMetric(
            sign * np.array([run.map for run in self.results]),
            sign * videos.left_out(self, "mean_ap"),
        )


def map_difference(better: SeedReports, worse: SeedReports) -> tuple[float, Interval | None]:
    """The difference of the mean mAPs, and its interval, which holds seeds and sources."""
    videos = _SameVideos.of([better, worse])
    metrics = [better.map(videos), worse.map(videos, sign=-1)]
    difference = float(sum(metric.values.mean() for metric in metrics))
    return difference, seeds.interval(metrics, videos.num_videos, videos.shared)


@dataclasses.dataclass(frozen=True, eq=False)
class _SameVideos:
    """The videos that were left out of all of some reports.

    A video that only some reports have counts in their metrics and not in the interval.

    Attributes:
      ids: of the videos.
      num_videos: of the evaluation set, of which they may be a sample.
      shared: which of them share an origin; None if intervals are by video.
    """

    ids: frozenset[str]
    num_videos: int
    shared: SharedOrigins | None

    @classmethod
    def of(cls, reports: Sequence[SeedReports]) -> "_SameVideos":
        left_out = [part for report in reports for part in report.left_out]
        metrics = [part for report in reports for part in report.metrics]
        ids = frozenset.intersection(*(frozenset(part.video_ids) for part in left_out))
        num_origins = [part.intervals.num_origins for part in metrics]
        shared = None
        if all(number is not None for number in num_origins):
            chosen = [
                (video_id, found)
                for video_id, found in zip(left_out[0].video_ids, left_out[0].origins, strict=True)
                if video_id in ids
            ]
            shared = SharedOrigins.of(
                [video_id for video_id, _ in chosen],
                [found for _, found in chosen],
                origins.sample_share(max(number or 0 for number in num_origins)),
            )
        return cls(ids, min(part.num_videos for part in metrics), shared)

    def left_out(self, reports: SeedReports, field: str) -> np.ndarray:
        """A field of `LeftOut`, float64 [seeds, videos]; all reports have the videos in order."""
        return np.stack(
            [
                getattr(part, field)[[video_id in self.ids for video_id in part.video_ids]]
                for part in reports.left_out
            ]
        )


def _read_left_out(report: str) -> LeftOut:
    try:
        return read_left_out(report)
    except FileNotFoundError as error:
        raise ContractError(
            f"{report} is of an earlier version, without {LEFT_OUT}; use another folder with "
            "--output"
        ) from error


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None
