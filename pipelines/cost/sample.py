"""What extraction costs on this machine, measured on a sample of a corpus.

The sampled videos go through the very code that extracts shards, decoder process included, into a
folder that is thrown away. All workers do it at the same time, as in the job: cores that share a
cache, or are two halves of one, take more CPU time for the same work than one core alone does.
Several rounds show how far the machine's own speed varies from one moment to the next.
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
from features.front_end.front_end import FrontEnd
from features.front_end.logmel import stream_patches
from features.sound.outcome import WRITTEN
from features.storage import files
from pipelines.cost import estimate
from pipelines.cost.estimate import Stratum
from pipelines.extraction.patches import (
    Mode,
    Settings,
    ShardPlan,
)
from pipelines.extraction.patches import extract_shard as extract
from pipelines.runtime import process_pool

_NUM_ROUNDS = 3
# The least that the speed of a machine is taken to vary between a trial and the job, as a standard
# deviation. Rounds that follow each other see too little of it: the virtual machines that this was
# developed on drift by 20 % over an hour.
_LEAST_DRIFT = 0.10
_NOISE_SECONDS = 60


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """The videos of a data set by kind, the suffix of the file.

    Attributes:
      videos: by kind, in order of id.
      sizes: by kind, float64 [videos]: seconds where all of them are known, or else bytes.
      num_absent: videos whose file is not there, which cost nothing.
    """

    videos: Mapping[str, Sequence[Video]]
    sizes: Mapping[str, np.ndarray]
    num_absent: int

    @property
    def num_videos(self) -> int:
        """How many videos, with those that are absent."""
        return self.num_absent + sum(len(videos) for videos in self.videos.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What the sampled videos of each kind cost and gave.

    Attributes:
      strata: by kind.
      decode, log_mel, write: by kind, CPU seconds, float64 [sampled videos].
      num_patches: by kind, float64 [sampled videos].
      bytes_per_patch: of a record file.
      drift: standard deviation of the machine's speed, as a share of it.
      rejects: of the sampled videos, how many by outcome.
      num_workers: how many worked at the same time.
      wall_seconds: of the whole trial.
    """

    strata: Mapping[str, Stratum]
    decode: Mapping[str, np.ndarray]
    log_mel: Mapping[str, np.ndarray]
    write: Mapping[str, np.ndarray]
    num_patches: Mapping[str, np.ndarray]
    bytes_per_patch: float
    drift: float
    rejects: Mapping[str, int]
    num_workers: int
    wall_seconds: float

    @property
    def cpu_seconds(self) -> dict[str, np.ndarray]:
        """By kind, float64 [sampled videos]."""
        return {
            kind: self.decode[kind] + self.log_mel[kind] + self.write[kind] for kind in self.strata
        }


def read_corpus(video_files: Sequence[str], groups: Mapping[str, Mapping[str, int]]) -> Corpus:
    """The videos of a data set and the sizes of their files, by one listing a folder.

    Args:
      video_files: the files of `videos/`.
      groups: split -> its groups.
    """
    videos = [
        Video(*row) for path in video_files for _, rows in read_videos(path, groups) for row in rows
    ]
    num_bytes: dict[str, int] = {}
    for folder in {files.parent(video.uri) for video in videos}:
        num_bytes |= files.list_sizes(folder, "*")
    by_kind: dict[str, list[Video]] = collections.defaultdict(list)
    for video in sorted(videos, key=lambda video: video.id):
        if video.uri in num_bytes:
            kind = PurePosixPath(video.uri).suffix.lower().removeprefix(".") or "no suffix"
            by_kind[kind].append(video)
    sizes = {}
    for kind, of_kind in sorted(by_kind.items()):
        if all(video.end is not None for video in of_kind):
            values = [(video.end or 0.0) - (video.start or 0.0) for video in of_kind]
        else:
            values = [float(num_bytes[video.uri]) for video in of_kind]
        sizes[kind] = np.array(values)
    present = sum(len(of_kind) for of_kind in by_kind.values())
    return Corpus(dict(sorted(by_kind.items())), sizes, len(videos) - present)


def measure(
    corpus: Corpus, settings: Settings, mode: Mode, *, num_sampled: int, num_workers: int, seed: int
) -> Trial:
    """Extract a sample of a corpus, several times on all workers at once."""
    start = time.monotonic()
    rng = np.random.default_rng(seed)
    counts = estimate.allocate(corpus.sizes, num_sampled)
    strata = {
        kind: Stratum(sizes, np.sort(rng.choice(len(sizes), counts[kind], replace=False)))
        for kind, sizes in corpus.sizes.items()
    }
    videos = [
        corpus.videos[kind][index] for kind, stratum in strata.items() for index in stratum.sampled
    ]
    with (
        process_pool.end_with_job(),
        process_pool.explain_worker_crash(),
        tempfile.TemporaryDirectory(prefix="plan-") as folder,
    ):
        executor = process_pool.pool(num_workers)
        run = functools.partial(_extract, settings=settings, mode=mode, folder=folder)
        list(executor.map(run, [videos[:1]] * num_workers))  # imports, and what starts at first use
        orders = [_from(videos, worker, num_workers) for worker in range(num_workers)]
        rounds = [list(executor.map(run, orders)) for _ in range(_NUM_ROUNDS)]
    runs = [run for runs in rounds for run in runs]
    seconds = [sum(run.whole for run in runs) for runs in rounds]
    spread = float(np.std(seconds, ddof=1) / np.mean(seconds)) * (1 + 1 / _NUM_ROUNDS) ** 0.5
    # By video, in the order of the strata.
    num_patches = np.array([runs[0].num_patches[video.id] for video in videos], np.float64)
    decoders = np.mean([[run.decoders[video.id] for video in videos] for run in runs], axis=0)
    log_mel = np.minimum(np.mean([run.log_mel for run in runs]) * num_patches, decoders)
    share = num_patches / num_patches.sum() if num_patches.sum() else 1 / len(videos)
    write = np.mean([run.worker for run in runs]) * share
    ends = np.cumsum([len(stratum.sampled) for stratum in strata.values()])

    def by_kind(values: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(strata, np.split(values, ends[:-1]), strict=True))

    return Trial(
        strata=strata,
        decode=by_kind(decoders - log_mel),
        log_mel=by_kind(log_mel),
        write=by_kind(np.broadcast_to(write, num_patches.shape)),
        num_patches=by_kind(num_patches),
        bytes_per_patch=runs[0].num_bytes / max(1.0, num_patches.sum()),
        drift=max(_LEAST_DRIFT, spread),
        rejects=runs[0].rejects,
        num_workers=num_workers,
        wall_seconds=time.monotonic() - start,
    )


def _from(videos: Sequence[Video], worker: int, num_workers: int) -> list[Video]:
    """All of them, from another place for each worker: no two decode one file at one moment."""
    first = worker * len(videos) // num_workers
    return [*videos[first:], *videos[:first]]


@dataclasses.dataclass(frozen=True)
class _Run:
    """All sampled videos as one shard: CPU seconds of decoders and worker, and what came of it."""

    decoders: Mapping[str, float]
    worker: float
    log_mel: float  # seconds a patch
    num_patches: Mapping[str, int]
    num_bytes: int
    rejects: Mapping[str, int]

    @property
    def whole(self) -> float:
        return sum(self.decoders.values()) + self.worker


def _extract(videos: Sequence[Video], settings: Settings, mode: Mode, folder: str) -> _Run:
    with tempfile.TemporaryDirectory(dir=folder) as output:
        plan = ShardPlan(ShardKey(TRAIN, ALL, 0, 1), tuple(videos), settings)
        result = extract(plan, output, mode)
    made = result.sidecar.videos
    return _Run(
        decoders=result.decoder_seconds,
        worker=result.worker_seconds,
        log_mel=_log_mel_seconds(settings.front_end),
        num_patches={video.id: video.num_patches for video in made},
        num_bytes=result.sidecar.num_bytes,
        rejects=collections.Counter(
            video.outcome for video in made if video.outcome not in WRITTEN
        ),
    )


def _log_mel_seconds(front_end: FrontEnd) -> float:
    """CPU seconds for the log-mel of a patch, which does not depend on what is heard."""
    params = front_end.log_mel
    shape = _NOISE_SECONDS, params.sample_rate_hz
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    start, num_patches = time.thread_time(), 0
    for patches in stream_patches(noise, params):
        num_patches += len(front_end.storage.encode(patches))
    return (time.thread_time() - start) / num_patches
