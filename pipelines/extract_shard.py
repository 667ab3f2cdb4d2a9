"""The unit of work: one shard's videos become one record file, described by a sidecar.

The same plan gives the same bytes on every machine and runner, at every attempt. The record file
is renamed into place first and its sidecar after it: a sidecar that matches the plan means that the
work is done. From this follow resuming after any kill, harmless retries, and exact accounting.
"""

import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np

from features import contract, record, storage, tfrecord
from features.audio import AudioError, Outcome, read_waveform
from features.front_end import FrontEnd
from features.logmel import stream_patches
from pipelines import resume
from pipelines.sharding import TRAIN, ShardKey

PATCHES = "patches"
RECORDS_SUFFIX = ".tfrecord"


@dataclasses.dataclass(frozen=True)
class Video:
    """One soundtrack to extract: a media file, or the part of one from start to end (seconds)."""

    id: str
    uri: str
    start: float | None
    end: float | None
    labels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Everything that decides the bytes of one shard."""

    key: ShardKey
    videos: tuple[Video, ...]  # in order of id
    front_end: FrontEnd
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the whole plan; a sidecar that carries it belongs to this very work."""
        return contract.fingerprint(self)


def extract_shard(plan: ShardPlan, output: str) -> dict[str, Any]:
    """Extract a shard unless its sidecar says that it is done.

    Args:
      plan: what to extract.
      output: the FEATURES folder.

    Returns:
      The sidecar: plan fingerprint, counts, digest of the record file, outcome of every video.
    """
    path = storage.join(output, plan.key.path(PATCHES))
    done = resume.find_sidecar(path, plan.fingerprint)
    if done is not None:
        return done
    patches: list[_StoredPatch] = []
    videos = []
    for video in plan.videos:
        outcome, detail, found = _extract_video(video, plan.front_end)
        patches += found
        videos.append(
            {
                "id": video.id,
                "uri": video.uri,
                "outcome": outcome,
                "detail": detail,
                "num_patches": len(found),
            }
        )
    if plan.key.split == TRAIN:
        patches = [patches[index] for index in _permutation(len(patches), plan)]
    sidecar = {
        "format_version": contract.FORMAT_VERSION,
        "plan": plan.fingerprint,
        "key": dataclasses.asdict(plan.key),
        "num_videos": len(videos),
        "num_patches": len(patches),
        **_write_records(path + RECORDS_SUFFIX, patches),
        "videos": videos,
    }
    resume.write_sidecar(path, sidecar)
    return sidecar


@dataclasses.dataclass(frozen=True, slots=True)
class _StoredPatch:
    video: Video
    start_seconds: float
    stored: np.ndarray  # [patch frames, mel bands]


def _extract_video(video: Video, front_end: FrontEnd) -> tuple[Outcome, str, list[_StoredPatch]]:
    """Decode one soundtrack; a soundtrack that cannot be used gives its outcome and no patch."""
    params = front_end.log_mel
    waveform = read_waveform(
        video.uri,
        sample_rate_hz=params.sample_rate_hz,
        start_seconds=video.start or 0.0,
        end_seconds=video.end,
    )
    try:
        chunks = [front_end.storage.encode(chunk) for chunk in stream_patches(waveform, params)]
    except AudioError as error:
        return error.outcome, error.detail, []
    patches = [
        _StoredPatch(video, index * params.patch_hop_seconds, stored)
        for index, stored in enumerate(itertools.chain.from_iterable(chunks))
    ]
    if not patches:
        return Outcome.TOO_SHORT, f"shorter than one patch of {params.patch_seconds} s", []
    return Outcome.OK, "", patches


def _permutation(size: int, plan: ShardPlan) -> np.ndarray:
    """A permutation drawn from the shard's name and the seed.

    Sorting raw output of the bit generator, because NumPy keeps that stable over its versions and
    `Generator.permutation` not.
    """
    seed = int(contract.fingerprint([dataclasses.asdict(plan.key), plan.seed]), 16)
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")


def _write_records(path: str, patches: list[_StoredPatch]) -> dict[str, Any]:
    """Write the record file; returns its size and digest for the sidecar."""
    num_bytes, digest = 0, hashlib.sha256()
    with storage.atomic_write(path) as file:
        for patch in patches:
            data = record.encode(
                record.PatchRecord(
                    video_id=patch.video.id,
                    patch=patch.stored.tobytes(),
                    start_seconds=patch.start_seconds,
                    labels=patch.video.labels,
                )
            )
            digest.update(data)
            num_bytes += tfrecord.write_record(file, data)
    return {"num_bytes": num_bytes, "sha256": digest.hexdigest()}
