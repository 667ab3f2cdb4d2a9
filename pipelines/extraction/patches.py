"""The unit of work: one shard's videos become one record file, described by a sidecar.

The same plan gives the same bytes on every machine and runner, at every attempt. The record file
is renamed into place first and its sidecar after it: a sidecar that matches the plan means that the
work is done. From this follow resuming after any kill, harmless retries, and exact accounting.

Decoding is what costs, and it is not done twice: where the plan has changed (other labels, more
videos, another order), the patches of the videos that stay are taken from the present record file.
"""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.contracts import folders, shards
from features.contracts.record import PatchRecord
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import (
    PATCHES,
    find_shard,
    read_records,
    write_records,
)
from features.contracts.videos import Video
from features.errors import JobFailedError
from features.front_end.front_end import FrontEnd
from features.sound.outcome import WRITTEN, AudioError, Outcome
from features.sound.soundtrack import PatchSample
from features.storage import files
from pipelines.runtime.decoder import DecoderProcess, decoder_process
from pipelines.runtime.spool import PatchSpool

CPU_SECONDS = "cpu_seconds"
# To be raised by a change of this code that makes other bytes of the same plan.
_CODE_VERSION = 1
# Rejects that say more of the moment than of the file: every run tries them again.
_MAY_PASS = frozenset({Outcome.NOT_FOUND, Outcome.PERMISSION_DENIED, Outcome.UNREADABLE})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all shards of a job share, and what decides their bytes.

    Attributes:
      front_end: samples to stored patches.
      seed: of the order within training shards.
      keep_partial: whether the good part of a truncated soundtrack is kept.
      patches_per_video: how many patches are drawn of each soundtrack; None for all.
    """

    front_end: FrontEnd
    seed: int
    keep_partial: bool
    patches_per_video: int | None = None


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a job works on its shards, without an influence on what it makes of good files.

    Attributes:
      timeout_seconds: wall time for one soundtrack.
      only_rejects: work on the shards that have rejects, and on nothing but these.
      force: take nothing from what is there.
      max_reject_fraction: share of the videos that may be rejected.
    """

    timeout_seconds: float = 900.0
    only_rejects: bool = False
    force: bool = False
    max_reject_fraction: float = 1.0


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Everything that decides the bytes of one shard."""

    key: ShardKey
    videos: tuple[Video, ...]  # in order of id
    settings: Settings

    @property
    def fingerprint(self) -> str:
        """Of the whole plan; a sidecar that carries it belongs to this very work."""
        document = dataclasses.asdict(self)
        document["settings"]["front_end"] = self.settings.front_end.to_json()
        return folders.fingerprint([_CODE_VERSION, document])


def extract_shard(
    plan: ShardPlan, output: str, mode: Mode, present_bytes: int | None = None
) -> dict[str, Any]:
    """Extract a shard unless its sidecar says that it is done.

    Args:
      plan: what to extract.
      output: the FEATURES folder.
      mode: how.
      present_bytes: of the record file that a listing has shown, None for none. The listing may be
        older than an attempt at this shard.

    Returns:
      The sidecar: plan fingerprint, counts, digest of the record file, outcome of every video. And
      where there was work, under `CPU_SECONDS`, what it cost, which is not in the file since it
      differs from run to run: CPU seconds of the `decoders` by id of the video, and of this
      `worker`. What a decoder cost that had to be killed is not known.
    """
    start = time.thread_time()
    path = files.join(output, plan.key.path(PATCHES))
    present = None if mode.force else find_shard(path, present_bytes)
    stays = {} if present is None else _staying(plan, present, mode)
    is_planned = present is not None and present["plan"] == plan.fingerprint
    if present is not None and is_planned and len(stays) == len(plan.videos):
        return present

    with PatchSpool(plan.settings.front_end.patch_bytes) as spool, decoder_process() as decoder:
        made = {
            video.id: _decode(video, plan.settings, mode, decoder, spool)
            for video in plan.videos
            if video.id not in stays
        }
        if present is not None and is_planned:
            before = {video["id"]: video["outcome"] for video in present["videos"]}
            if all(one.outcome == before[video_id] for video_id, one in made.items()):
                return present  # rejected once more
        if present is not None:
            made |= _read_present(plan, stays, path, spool)
        # Where the record file is not what its sidecar says, all is decoded.
        for video in plan.videos:
            if video.id not in made:
                made[video.id] = _decode(video, plan.settings, mode, decoder, spool)
        sidecar = _write_shard(plan, made, path, spool)
    shards.write_sidecar(path, sidecar)
    decoders = {
        video_id: one.cpu_seconds for video_id, one in made.items() if one.cpu_seconds is not None
    }
    return {**sidecar, CPU_SECONDS: {"decoders": decoders, "worker": time.thread_time() - start}}


@dataclasses.dataclass(frozen=True)
class _Extracted:
    """What became of a video, and where its patches are in the spool, in order."""

    outcome: Outcome
    detail: str
    places: Sequence[tuple[int, int]]  # (index of the patch in its soundtrack, place), rising
    cpu_seconds: float | None = None  # of the decoder; None where nothing was decoded


def _staying(
    plan: ShardPlan, present: Mapping[str, Any], mode: Mode
) -> dict[str, Mapping[str, Any]]:
    """The videos of the plan, by id, whose outcome in the present sidecar holds."""
    source_of = {video.id: _source(video, plan.settings) for video in plan.videos}
    return {
        video["id"]: video
        for video in present["videos"]
        if source_of.get(video["id"]) == video["source"]
        and (
            video["outcome"] in WRITTEN or not (mode.only_rejects or video["outcome"] in _MAY_PASS)
        )
    }


def _read_present(
    plan: ShardPlan, stays: Mapping[str, Mapping[str, Any]], path: str, spool: PatchSpool
) -> dict[str, _Extracted]:
    """Take what stays from the record file that is there, as far as that can be read."""
    hop = plan.settings.front_end.log_mel.patch_hop_seconds
    places: dict[str, dict[int, int]] = {video_id: {} for video_id in stays}
    with contextlib.suppress(JobFailedError):
        for one in read_records(path):
            if one.video_id in places:
                places[one.video_id][round(one.start_seconds / hop)] = len(spool)
                spool.append(one.patch)
    return {
        video_id: _Extracted(
            Outcome(video["outcome"]),
            video["detail"],
            sorted(places[video_id].items()),
        )
        for video_id, video in stays.items()
        if len(places[video_id]) == video["num_patches"]
    }


def _write_shard(
    plan: ShardPlan, made: Mapping[str, _Extracted], path: str, spool: PatchSpool
) -> dict[str, Any]:
    """Order the patches, write the record file, and return the sidecar to be written."""
    order = [
        (video, index, place) for video in plan.videos for index, place in made[video.id].places
    ]
    if plan.key.split == TRAIN:
        order = [order[index] for index in _permutation(len(order), plan)]
    hop = plan.settings.front_end.log_mel.patch_hop_seconds
    records = (
        PatchRecord(video.id, spool.read(place), index * hop, video.labels)
        for video, index, place in order
    )
    videos = [
        {
            "id": video.id,
            "uri": video.uri,
            "outcome": made[video.id].outcome,
            "detail": made[video.id].detail,
            "num_patches": len(made[video.id].places),
            "source": _source(video, plan.settings),
        }
        for video in plan.videos
    ]
    return {
        "format_version": folders.FORMAT_VERSION,
        "plan": plan.fingerprint,
        "key": dataclasses.asdict(plan.key),
        "num_videos": len(videos),
        "num_patches": len(order),
        **write_records(path, records),
        "videos": videos,
    }


def _decode(
    video: Video, settings: Settings, mode: Mode, decoder: DecoderProcess, spool: PatchSpool
) -> _Extracted:
    """Decode one soundtrack into the spool; one that cannot be used leaves nothing there."""
    start = len(spool)
    outcome, detail = Outcome.OK, ""
    indices: list[int] = []
    cpu_before = decoder.cpu_seconds
    try:
        for found in decoder.decode(
            video.uri,
            settings.front_end,
            spool,
            start_seconds=video.start or 0.0,
            end_seconds=video.end,
            sample=_sample(video, settings),
            timeout_seconds=mode.timeout_seconds,
        ):
            indices += found.tolist()
    except AudioError as error:
        outcome, detail = error.outcome, error.detail
        if outcome == Outcome.TRUNCATED and settings.keep_partial and len(spool) > start:
            outcome = Outcome.OK_PARTIAL
    if outcome == Outcome.OK and len(spool) == start:
        outcome = Outcome.TOO_SHORT
        detail = f"shorter than one patch of {settings.front_end.log_mel.patch_seconds} s"
    if outcome not in WRITTEN:
        spool.truncate(start)
    places = list(zip(indices, range(start, len(spool)), strict=False))
    return _Extracted(outcome, detail, places, decoder.cpu_seconds - cpu_before)


def _source(video: Video, settings: Settings) -> str:
    """What decides the patches of one video."""
    sample = _sample(video, settings)
    parts = [video.uri, video.start, video.end, settings.front_end.fingerprint]
    return folders.fingerprint([*parts, settings.keep_partial, sample and sample.seed])


def _sample(video: Video, settings: Settings) -> PatchSample | None:
    """Which patches of a video; drawn from its id, so that other videos have no say in it."""
    if settings.patches_per_video is None:
        return None
    name = [video.id, settings.seed, settings.patches_per_video]
    return PatchSample(settings.patches_per_video, int(folders.fingerprint(name), 16))


def _permutation(size: int, plan: ShardPlan) -> np.ndarray:
    """A permutation drawn from the shard's name and the seed.

    Sorting raw output of the bit generator, because NumPy keeps that stable over its versions and
    `Generator.permutation` not.
    """
    seed = int(folders.fingerprint([dataclasses.asdict(plan.key), plan.settings.seed]), 16)
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")
