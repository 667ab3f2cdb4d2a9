"""Examines one shard record by record: against its sidecar, the front end and the vocabulary.

Damage is what extraction would not have written; extracting the shard again repairs it. Other
findings are counts, for example of constant patches, such as digital silence.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from features.contracts import record, sharding, shards, tfrecord
from features.contracts.documents import ExtractedVideo, PatchShard
from features.contracts.record import PatchRecord
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.errors import ContractError
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.audit import fingerprint, shuffle_tests
from pipelines.audit.document import Damage, Problem
from pipelines.audit.duplicates import VideoFingerprint
from pipelines.audit.shuffle_tests import Evidence
from pipelines.extraction import totals
from pipelines.extraction.indexing import IndexRow, rows_of
from pipelines.extraction.patches import Settings


@dataclasses.dataclass(frozen=True)
class ShardRules:
    """What the records of a folder have to comply with.

    Attributes:
      settings: of the extraction: the front end, and which patches are drawn of a video.
      num_labels: size of the vocabulary.
    """

    settings: Settings
    num_labels: int

    @property
    def front_end(self) -> FrontEnd:
        """From samples to stored patches."""
        return self.settings.front_end

    def patch_indices(self, split: str, video: ExtractedVideo, found: Collection[int]) -> list[int]:
        """Indices of the patches that a video should have, in ascending order.

        Args:
          split: of the video.
          video: its entry in the sidecar.
          found: indices of the patches that it has. They are right if older code drew them without
            recording how many the soundtrack has, and if they are as many as in the sidecar.
        """
        sample = self.settings.for_split(split).sample(video.id)
        if sample is None:
            return list(range(video.num_patches))
        if video.drawn_from is not None:
            return sample.draw(video.drawn_from).tolist()
        return sorted(found) if len(found) == video.num_patches else list(range(video.num_patches))

    def is_whole(self, split: str, video: ExtractedVideo) -> bool:
        """Whether all patches of the soundtrack are stored."""
        is_sampled = self.settings.for_split(split).patches_per_video is not None
        return video.num_patches == video.drawn_from or not is_sampled


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Result of the examination of a shard, or the sum over several shards.

    Attributes:
      shard: its path in the folder; empty in sums.
      damages: what is wrong.
      counts: (split, name) -> sum: those of `totals.count_shard`, `num_constant` patches of one
        value, and `num_incomparable` videos with too few marks to be recognised in another
        encoding, all videos that patches were drawn of among them.
      label_videos: split -> int64 [labels], number of videos.
      evidence: group of training shards -> evidence for the shuffle tests.
      fingerprints: of the videos; not in sums.
      index_rows: of a training shard, what the index of its group has to say; not in sums.
    """

    shard: str = ""
    damages: tuple[Damage, ...] = ()
    counts: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    label_videos: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    evidence: Mapping[str, Evidence] = dataclasses.field(default_factory=dict)
    fingerprints: tuple[VideoFingerprint, ...] = ()
    index_rows: tuple[IndexRow, ...] = ()


class _BadRecordError(Exception):
    """A record that the rules do not allow."""


@dataclasses.dataclass
class _PartialVideo:
    """What is known of a video while its records are read, in any order."""

    labels: tuple[int, ...]
    digests: dict[int, bytes] = dataclasses.field(default_factory=dict)  # patch index -> content
    first_patches: dict[int, bytes] = dataclasses.field(default_factory=dict)
    num_constant: int = 0


def examine_shard(key: ShardKey, folder: str, rules: ShardRules) -> Findings:
    """Read a shard and compare it with its sidecar and the rules.

    Args:
      key: a shard that `features.json` names; its files may be missing.
      folder: the FEATURES folder.
      rules: of the folder.
    """
    path = files.join(folder, key.path(PATCHES))

    def damaged(problem: Problem, detail: str) -> Findings:
        return Findings(damages=(Damage(key.path(PATCHES), problem, detail),))

    try:
        sidecar = shards.read_sidecar(path, PatchShard)
    except FileNotFoundError:
        if files.exists(path + RECORDS_SUFFIX):
            return damaged(Problem.MISSING_SIDECAR, "the shard was not finished")
        return damaged(Problem.MISSING_SHARD, "the records and the sidecar are missing")
    except ContractError as error:
        return damaged(Problem.BAD_SIDECAR, str(error).partition("; delete ")[0])
    if sidecar.key != key:
        return damaged(Problem.BAD_SIDECAR, f"belongs to the shard {sidecar.key.path(PATCHES)}")
    expected = {video.id: video.num_patches for video in sidecar.videos}
    if (sidecar.num_videos, sidecar.num_patches) != (len(expected), sum(expected.values())):
        return damaged(Problem.BAD_SIDECAR, "its counts do not add up")
    try:
        return _examine_records(sidecar, path + RECORDS_SUFFIX, rules)
    except FileNotFoundError:
        return damaged(Problem.MISSING_RECORDS, f"{sidecar.num_patches} records are missing")
    except tfrecord.CorruptRecordError as error:
        detail = str(error).removeprefix(path + RECORDS_SUFFIX + ": ")
        return damaged(Problem.BAD_CHECKSUM, detail)
    except _BadRecordError as error:
        return damaged(Problem.BAD_RECORD, str(error))


def _examine_records(sidecar: PatchShard, path: str, rules: ShardRules) -> Findings:
    index_of = {video.id: index for index, video in enumerate(sidecar.videos)}
    found: dict[str, _PartialVideo] = {}
    digest, num_bytes = hashlib.sha256(), 0
    order = []  # (index of the video, index of the patch) of every record
    with files.open_read(path) as file:
        for index, data in enumerate(tfrecord.read_records(file, path)):
            digest.update(record.strip_padding(data))
            num_bytes += len(data) + tfrecord.OVERHEAD
            try:
                patch = record.decode(data)
                if patch.video_id not in index_of:
                    raise ValueError(f"{patch.video_id!r} is not among the videos of the sidecar")
                patch_index = _check_patch(patch, rules)
                _add_patch(patch, patch_index, found, rules.front_end)
                if sidecar.record_bytes not in (None, len(data)):
                    raise ValueError(
                        f"{len(data)} bytes, the sidecar says {sidecar.record_bytes} of each record"
                    )
            except ValueError as error:
                raise _BadRecordError(f"record {index}: {error}") from error
            order.append((index_of[patch.video_id], patch_index))

    key = sidecar.key
    expected = [
        (index, patch)
        for index, video in enumerate(sidecar.videos)
        for patch in rules.patch_indices(
            key.split, video, found[video.id].digests if video.id in found else ()
        )
    ]
    problems = _compare_with_sidecar(sidecar, order, expected, num_bytes, digest.hexdigest())
    label_videos = np.zeros(rules.num_labels, np.int64)
    for video in found.values():
        label_videos[list(video.labels)] += 1
    fingerprints = tuple(
        _compute_fingerprint(key.split, video.id, found[video.id], rules.front_end)
        for video in sidecar.videos
        if video.id in found and rules.is_whole(key.split, video)
    )
    evidence = {}
    if key.split == TRAIN:
        videos, patches = np.array(order, np.int64).reshape(-1, 2).T
        labels = [video.labels for video in found.values()]
        evidence[f"{key.split}/{key.group}"] = shuffle_tests.collect_evidence(
            videos, patches, labels, rules.num_labels
        )
    num_constant = sum(video.num_constant for video in found.values())
    num_comparable = sum(fingerprint.is_comparable(video.marks) for video in fingerprints)
    return Findings(
        damages=tuple(Damage(key.path(PATCHES), *problem) for problem in problems),
        counts={
            **dict(totals.count_shard(sidecar)),
            (key.split, "num_constant"): num_constant,
            (key.split, "num_incomparable"): len(found) - num_comparable,
        },
        label_videos={key.split: label_videos},
        evidence=evidence,
        fingerprints=fingerprints,
        index_rows=tuple(rows_of(sidecar)),
    )


def _check_patch(patch: PatchRecord, rules: ShardRules) -> int:
    """Check a record against the rules, and return the index of the patch in its video.

    Raises:
      ValueError: the record is not allowed.
    """
    front_end, labels = rules.front_end, patch.labels
    dtype, hop = np.dtype(front_end.storage.dtype), front_end.patch_hop_seconds
    if len(patch.patch) != front_end.patch_bytes:
        raise ValueError(
            f"a patch of {len(patch.patch)} bytes; {front_end.patch_shape} of {dtype} take "
            f"{front_end.patch_bytes}"
        )
    if list(labels) != sorted(set(labels)) or (
        labels and not 0 <= labels[0] <= labels[-1] < rules.num_labels
    ):
        raise ValueError(f"labels {labels} do not rise within 0 to {rules.num_labels - 1}")
    # A damaged number may have any value, also infinity or NaN.
    position = patch.start_seconds / hop
    index = round(position) if np.isfinite(position) else -1
    if index < 0 or np.float32(index * hop) != patch.start_seconds:
        raise ValueError(f"starts at {patch.start_seconds} s, not on the grid of {hop} s")
    if dtype.kind == "f" and not np.isfinite(np.frombuffer(patch.patch, dtype)).all():
        raise ValueError(f"patch {index} of {patch.video_id!r} has values that are not finite")
    return index


def _add_patch(
    patch: PatchRecord, index: int, found: dict[str, _PartialVideo], front_end: FrontEnd
) -> None:
    """Add a patch to what is known of its video.

    Raises:
      ValueError: the record contradicts an earlier record of the video.
    """
    video = found.setdefault(patch.video_id, _PartialVideo(patch.labels))
    if patch.labels != video.labels:
        raise ValueError(f"{patch.video_id!r} has labels {video.labels} and also {patch.labels}")
    if index in video.digests:
        raise ValueError(f"patch {index} of {patch.video_id!r} occurs twice")
    video.digests[index] = hashlib.blake2b(patch.patch, digest_size=8).digest()
    values = np.frombuffer(patch.patch, front_end.storage.dtype)
    video.num_constant += bool(values.min() == values.max())
    # Embeddings have no fingerprint: only exact duplicates are found.
    if front_end.embedding is None and patch.start_seconds < fingerprint.COVERED_SECONDS:
        video.first_patches[index] = patch.patch


def _compare_with_sidecar(
    sidecar: PatchShard,
    order: list[tuple[int, int]],
    expected: list[tuple[int, int]],
    num_bytes: int,
    digest: str,
) -> Iterator[tuple[Problem, str]]:
    """Compare records that are allowed with the sidecar.

    Args:
      sidecar: of the shard.
      order: (index of the video, index of the patch) of every record.
      expected: the same of the records that there should be, in order of video and time.
      num_bytes: size of the record file.
      digest: SHA-256 of the records.
    """
    key = sidecar.key
    num_missing = len(set(expected) - set(order))
    num_extra = len(set(order) - set(expected))
    if num_missing or num_extra:
        detail = f"{num_missing} of {len(expected)} records are missing, {num_extra} are too many"
        yield Problem.WRONG_RECORDS, detail
    elif key.split != TRAIN and order != expected:
        yield Problem.WRONG_RECORDS, "the records are not in order of video and time"
    elif (num_bytes, digest) != (sidecar.num_bytes, sidecar.sha256):
        yield Problem.WRONG_DIGEST, f"SHA-256 is {digest}, the sidecar says {sidecar.sha256}"
    for video in sidecar.videos:
        home = sharding.shard_of(video.id, key.split, key.num_shards)
        if home.index != key.index:
            yield Problem.WRONG_RECORDS, f"{video.id!r} belongs to shard {home.index}"


def _compute_fingerprint(
    split: str, video_id: str, video: _PartialVideo, front_end: FrontEnd
) -> VideoFingerprint:
    digest = ""
    if video.num_constant < len(video.digests):
        content = b"".join(video.digests[index] for index in sorted(video.digests))
        digest = hashlib.sha256(content).hexdigest()[:16]
    stored = [video.first_patches[index] for index in sorted(video.first_patches)]
    values = np.frombuffer(b"".join(stored), front_end.storage.dtype)
    log_mel = front_end.storage.decode(values.reshape(-1, *front_end.log_mel.patch_shape))
    marks = fingerprint.compute_fingerprint(log_mel)
    return VideoFingerprint(split, video_id, digest, marks.tobytes())
