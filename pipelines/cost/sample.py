"""Measures the cost of extraction on this machine, on a sample of a corpus.

The sampled videos go through the code that extracts shards, including the decoder process, into a
folder that is deleted afterwards. All workers extract the sample at the same time, as in the job:
cores that share a cache, or are two halves of one core, take more CPU time for the same work than
a core that works alone.
"""

import collections
import dataclasses
import functools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from features.contracts.sharding import ALL, TRAIN, ShardKey
from features.contracts.videos import Video, read_videos
from features.errors import InputError
from features.sound.outcome import WRITTEN
from features.storage import files
from pipelines.cost import estimate
from pipelines.cost.estimate import Stratum
from pipelines.extraction.patches import Mode, Settings, ShardPlan, ShardResult, extract_shard
from pipelines.runtime import process_pool

# Suffix of kinds of splits that are extracted whole while patches are drawn in others.
_WHOLE = ", whole"
# The sample is extracted so many times by each worker; the mean counts.
_NUM_ROUNDS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """The videos of a data set by kind: the suffix of the file, and how it is treated.

    Attributes:
      videos: by kind, in order of id.
      sizes: by kind, float64 [videos]: seconds if the end of every video is known, else bytes.
      num_absent: videos without a file, which cost nothing.
      scored: kinds of the videos that are to be scored too.
    """

    videos: Mapping[str, Sequence[Video]]
    sizes: Mapping[str, np.ndarray]
    num_absent: int
    scored: frozenset[str] = frozenset()

    @property
    def num_videos(self) -> int:
        """Number of videos, including the absent ones."""
        return self.num_absent + sum(len(videos) for videos in self.videos.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Cost and output of the sampled videos.

    Attributes:
      strata: by kind.
      cpu_seconds: by kind, float64 [sampled videos], of decoder and worker.
      num_patches: by kind, float64 [sampled videos].
      bytes_per_patch: of a record file.
      rejects: outcome -> sampled videos.
      num_workers: processes that worked at the same time.
      wall_seconds: of the whole measurement.
    """

    strata: Mapping[str, Stratum]
    cpu_seconds: Mapping[str, np.ndarray]
    num_patches: Mapping[str, np.ndarray]
    bytes_per_patch: float
    rejects: Mapping[str, int]
    num_workers: int
    wall_seconds: float


def read_corpus(
    video_files: Sequence[str],
    num_shards: Mapping[str, Mapping[str, int]],
    settings: Settings,
    scored_split: str | None = None,
) -> Corpus:
    """Read the videos of a data set, and the sizes of their files by one listing for each folder.

    Args:
      video_files: the files of `videos/`.
      num_shards: split -> group -> number of shards.
      settings: of the extraction, which may draw patches in some splits only.
      scored_split: of which the videos are kinds of their own; None if no split is to be scored.

    Raises:
      InputError: media are on web servers, where no listing gives their sizes.
    """
    videos = {
        Video(*row): key[0]
        for path in video_files
        for key, rows in read_videos(path, num_shards)
        for row in rows
    }
    if num_on_web := sum(files.is_on_web(video.uri) for video in videos):
        raise InputError(
            f"{num_on_web} of {len(videos)} media are on web servers, where no listing gives their "
            "sizes; plan with a manifest of copies of some of them on a disk or in a store"
        )
    num_bytes: dict[str, int] = {}
    for folder in {files.parent(video.uri) for video in videos}:
        num_bytes |= files.list_sizes(folder, "*")
    by_kind: dict[str, list[Video]] = collections.defaultdict(list)
    scored = set()
    for video in sorted(videos, key=lambda video: video.id):
        if video.uri in num_bytes:
            kind = PurePosixPath(video.uri).suffix.lower().removeprefix(".") or "no suffix"
            if videos[video] == scored_split:
                kind += f", {scored_split}"
            if settings.for_split(videos[video]) != settings:
                kind += _WHOLE
            if videos[video] == scored_split:
                scored.add(kind)
            by_kind[kind].append(video)
    kinds = dict(sorted(by_kind.items()))
    sizes = {kind: _measure_sizes(present, num_bytes) for kind, present in kinds.items()}
    num_absent = len(videos) - sum(len(present) for present in kinds.values())
    return Corpus(kinds, sizes, num_absent, frozenset(scored))


def _measure_sizes(videos: Sequence[Video], num_bytes: Mapping[str, int]) -> np.ndarray:
    ends = [video.end for video in videos if video.end is not None]
    if len(ends) == len(videos):
        return np.array(ends) - [video.start or 0.0 for video in videos]
    return np.array([num_bytes[video.uri] for video in videos], np.float64)


def draw_sample(sizes: Mapping[str, np.ndarray], num_sampled: int, seed: int) -> dict[str, Stratum]:
    """Draw videos of each kind at random."""
    rng = np.random.default_rng(seed)
    counts = estimate.allocate(sizes, num_sampled)
    return {
        kind: Stratum(values, np.sort(rng.choice(len(values), counts[kind], replace=False)))
        for kind, values in sizes.items()
    }


def measure(
    corpus: Corpus, settings: Settings, mode: Mode, *, num_sampled: int, num_workers: int, seed: int
) -> Sample:
    """Extract a sample of a corpus, several times on all workers at once."""
    start = time.monotonic()
    strata = draw_sample(corpus.sizes, num_sampled, seed)
    cpu_seconds: dict[str, np.ndarray] = {}
    num_patches: dict[str, np.ndarray] = {}
    sidecars = []
    for whole in (False, True):
        chosen = {
            kind: [corpus.videos[kind][index] for index in stratum.sampled]
            for kind, stratum in strata.items()
            if kind.endswith(_WHOLE) == whole
        }
        if not chosen:
            continue
        used = dataclasses.replace(settings, patches_per_video=None) if whole else settings
        videos = [video for kind in chosen for video in chosen[kind]]
        results = _extract_on_workers(videos, used, mode, num_workers)
        sidecars.append(results[0].sidecar)
        ends = np.cumsum([len(present) for present in chosen.values()])[:-1]
        for values, measured in zip(
            (cpu_seconds, num_patches), _costs(videos, results), strict=True
        ):
            values.update(zip(chosen, np.split(measured, ends), strict=True))
    outcomes = (video.outcome for sidecar in sidecars for video in sidecar.videos)
    return Sample(
        strata=strata,
        cpu_seconds=cpu_seconds,
        num_patches=num_patches,
        bytes_per_patch=sum(sidecar.num_bytes for sidecar in sidecars)
        / max(1, sum(sidecar.num_patches for sidecar in sidecars)),
        rejects=collections.Counter(str(found) for found in outcomes if found not in WRITTEN),
        num_workers=num_workers,
        wall_seconds=time.monotonic() - start,
    )


def _costs(videos: Sequence[Video], results: Sequence[ShardResult]) -> tuple[np.ndarray, ...]:
    """CPU seconds and patches of each video: two of float64 [videos]."""
    sidecar = results[0].sidecar
    patches_of = {video.id: video.num_patches for video in sidecar.videos}
    num_patches = np.array([patches_of[video.id] for video in videos], np.float64)
    decoder_seconds = np.mean(
        [[result.decoder_seconds[video.id] for video in videos] for result in results], axis=0
    )
    # A worker writes patches; its time is shared out by their number.
    shares = num_patches / sidecar.num_patches if sidecar.num_patches else 1 / len(videos)
    worker_seconds = np.mean([result.worker_seconds for result in results])
    return decoder_seconds + shares * worker_seconds, num_patches


def _extract_on_workers(
    videos: Sequence[Video], settings: Settings, mode: Mode, num_workers: int
) -> list[ShardResult]:
    """Extract all videos in each worker and round; every worker starts at another video."""
    firsts = [worker * len(videos) // num_workers for worker in range(num_workers)]
    with (
        process_pool.end_with_job(),
        process_pool.explain_worker_crash(),
        tempfile.TemporaryDirectory(prefix="plan-") as folder,
    ):
        executor = process_pool.pool(num_workers)
        extract = functools.partial(_extract, settings=settings, mode=mode, folder=folder)
        list(executor.map(extract, [videos[:1]] * num_workers))  # imports, and other first costs
        orders = [[*videos[first:], *videos[:first]] for first in firsts]
        return list(executor.map(extract, orders * _NUM_ROUNDS))


def _extract(videos: Sequence[Video], settings: Settings, mode: Mode, folder: str) -> ShardResult:
    with tempfile.TemporaryDirectory(dir=folder) as output:
        plan = ShardPlan(ShardKey(TRAIN, ALL, 0, 1), tuple(videos), settings)
        return extract_shard(plan, output, mode)
