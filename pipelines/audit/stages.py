"""The stages of `audit_features`: one shard an element, examined record by record, then a verdict.

Damage is what extraction would not have written; running it again without the shard mends it. A
note is what it may have written and a person may want to know, such as a patch of digital silence.
"""

import dataclasses
import enum
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from features.contracts import folders, record, sharding, shards, tfrecord
from features.contracts.documents import PatchShard
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.errors import ContractError, JobFailedError
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.audit import fingerprint, shuffle_tests
from pipelines.audit.duplicates import Copy, VideoPrint
from pipelines.audit.shuffle_tests import Evidence
from pipelines.extraction import totals

AUDIT = "audit.json"
# Of more leaks than these, the numbers are given and the first ones listed.
_LISTED_LEAKS = 10_000
_COUNTS = ("num_videos", "num_patches", "num_bytes")


class Problem(enum.StrEnum):
    """What can be wrong with a shard."""

    MISSING_SHARD = "missing_shard"  # named by `features.json`, and not there
    MISSING_RECORDS = "missing_records"  # a sidecar without its record file
    MISSING_SIDECAR = "missing_sidecar"  # a record file without its sidecar
    BAD_SIDECAR = "bad_sidecar"  # no JSON, or not of this shard
    BAD_CHECKSUM = "bad_checksum"  # a damaged or cut record
    BAD_RECORD = "bad_record"  # whole, but not what the front end and vocabulary allow
    WRONG_RECORDS = "wrong_records"  # not the records that the sidecar counts
    WRONG_DIGEST = "wrong_digest"  # the right number of records, and not the same bytes
    WRONG_COUNTS = "wrong_counts"  # the sidecars do not add up to `features.json`
    STRAY_FILE = "stray_file"  # of no shard, and yet readers would take it


class Damage(NamedTuple):
    """One finding: a shard's path without suffix, relative to the folder, or a file's."""

    path: str
    problem: str
    detail: str


@dataclasses.dataclass(frozen=True)
class ShardRules:
    """What the records of a folder must comply with."""

    front_end: FrontEnd
    num_labels: int


@dataclasses.dataclass(frozen=True, eq=False)
class ShardFindings:
    """What the examination of one shard gives; every field is small."""

    key: ShardKey
    damages: tuple[Damage, ...] = ()
    sidecar: PatchShard | None = None
    num_constant: int = 0
    num_incomparable: int = 0  # videos with too few marks to be found again in another encoding
    label_videos: np.ndarray | None = None  # int64 [labels]
    prints: tuple[VideoPrint, ...] = ()
    evidence: Evidence | None = None  # of training shards


class _BadRecordError(Exception):
    """A record that the rules do not allow."""


@dataclasses.dataclass
class _VideoSoFar:
    """What is gathered of one video while its records come by, in any order."""

    labels: tuple[int, ...]
    digests: dict[int, bytes] = dataclasses.field(default_factory=dict)  # patch index -> content
    first_patches: dict[int, bytes] = dataclasses.field(default_factory=dict)
    num_constant: int = 0


def examine_shard(key: ShardKey, folder: str, rules: ShardRules) -> ShardFindings:
    """Read a shard and hold it against its sidecar and the rules.

    Args:
      key: a shard that `features.json` names; it need not be there.
      folder: the FEATURES folder.
      rules: of the folder.
    """
    path = files.join(folder, key.path(PATCHES))

    def damaged(problem: Problem, detail: str) -> ShardFindings:
        return ShardFindings(key, (Damage(key.path(PATCHES), str(problem), detail),))

    try:
        sidecar = shards.read_sidecar(path, PatchShard)
        if sidecar.key != key:
            return damaged(Problem.BAD_SIDECAR, f"is of the shard {sidecar.key}")
        promised = {video.id: video.num_patches for video in sidecar.videos}
        counts = (sidecar.num_videos, sidecar.num_patches)
        if counts != (len(promised), sum(promised.values())):
            return damaged(Problem.BAD_SIDECAR, "its counts do not add up")
    except FileNotFoundError:
        if files.exists(path + RECORDS_SUFFIX):
            return damaged(Problem.MISSING_SIDECAR, "the shard was not finished")
        return damaged(Problem.MISSING_SHARD, "neither records nor sidecar are there")
    except ContractError as error:
        return damaged(Problem.BAD_SIDECAR, f"cannot be read: {error}")
    try:
        return _examine_records(key, path + RECORDS_SUFFIX, sidecar, rules)
    except FileNotFoundError:
        return damaged(Problem.MISSING_RECORDS, f"{sidecar.num_patches} records are gone")
    except tfrecord.CorruptRecordError as error:
        detail = str(error).removeprefix(path + RECORDS_SUFFIX + ": ")
        return damaged(Problem.BAD_CHECKSUM, detail)
    except _BadRecordError as error:
        return damaged(Problem.BAD_RECORD, str(error))


def _examine_records(
    key: ShardKey, path: str, sidecar: PatchShard, rules: ShardRules
) -> ShardFindings:
    ids = [video.id for video in sidecar.videos]
    place = {video_id: index for index, video_id in enumerate(ids)}
    found: dict[str, _VideoSoFar] = {}
    digest, num_bytes = hashlib.sha256(), 0
    videos, patches = [], []  # of every record, in order of the file
    with files.open_read(path) as file:
        for index, data in enumerate(tfrecord.read_records(file, path)):
            digest.update(data)
            num_bytes += len(data) + tfrecord.OVERHEAD
            try:
                one = record.decode(data)
                if one.video_id not in place:
                    raise ValueError(f"{one.video_id!r} is not among the sidecar's videos")
                patches.append(_take(one, found, rules))
            except ValueError as error:
                raise _BadRecordError(f"record {index}: {error}") from error
            videos.append(place[one.video_id])

    order = list(zip(videos, patches, strict=True))
    problem = _compare_with_sidecar(key, sidecar, order, num_bytes, digest.hexdigest())
    num_labels = rules.num_labels
    label_videos = np.zeros(num_labels, np.int64)
    for video in found.values():
        label_videos[list(video.labels)] += 1
    prints = tuple(
        _print_of(key.split, name, found[name], rules.front_end) for name in sorted(found)
    )
    evidence = None
    if key.split == TRAIN:
        labels = [video.labels for video in found.values()]
        evidence = shuffle_tests.evidence_of(
            np.array(videos, np.int64), np.array(patches, np.int64), labels, num_labels
        )
    return ShardFindings(
        key,
        damages=tuple(Damage(key.path(PATCHES), *one) for one in problem),
        sidecar=sidecar,
        num_constant=sum(video.num_constant for video in found.values()),
        num_incomparable=sum(not fingerprint.comparable(one.prints) for one in prints),
        label_videos=label_videos,
        prints=prints,
        evidence=evidence,
    )


def _take(one: record.PatchRecord, found: dict[str, _VideoSoFar], rules: ShardRules) -> int:
    """Check a record and gather it; returns which patch of its video it is.

    Raises:
      ValueError: the record is not allowed.
    """
    front_end = rules.front_end
    params, dtype = front_end.log_mel, np.dtype(front_end.storage.dtype)
    if len(one.patch) != front_end.patch_bytes:
        raise ValueError(
            f"a patch of {len(one.patch)} bytes; {front_end.patch_shape} of {dtype} take "
            f"{front_end.patch_bytes}"
        )
    labels = one.labels
    if list(labels) != sorted(set(labels)) or (
        labels and not 0 <= labels[0] <= labels[-1] < rules.num_labels
    ):
        raise ValueError(f"labels {labels} do not rise within 0 to {rules.num_labels - 1}")
    # A damaged number may be of any size, and no number.
    patch = one.start_seconds / params.patch_hop_seconds
    index = round(patch) if np.isfinite(patch) else -1
    if index < 0 or np.float32(index * params.patch_hop_seconds) != one.start_seconds:
        raise ValueError(
            f"starts at {one.start_seconds} s, not on the grid of {params.patch_hop_seconds} s"
        )
    values = np.frombuffer(one.patch, dtype)
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"patch {index} of {one.video_id!r} has values that are not finite")
    video = found.setdefault(one.video_id, _VideoSoFar(labels))
    if labels != video.labels:
        raise ValueError(f"{one.video_id!r} has labels {video.labels} and also {labels}")
    if index in video.digests:
        raise ValueError(f"patch {index} of {one.video_id!r} is there twice")
    video.digests[index] = hashlib.blake2b(one.patch, digest_size=8).digest()
    video.num_constant += bool(values.min() == values.max())
    # Of embeddings there is no print: only exact copies are found.
    if front_end.embedding is None and one.start_seconds < fingerprint.COVERED_SECONDS:
        video.first_patches[index] = one.patch
    return index


def _compare_with_sidecar(
    key: ShardKey,
    sidecar: PatchShard,
    order: list[tuple[int, int]],
    num_bytes: int,
    digest: str,
) -> Iterator[tuple[str, str]]:
    """(problem, detail) of records that are whole and allowed, but not the sidecar's."""
    promised = [
        (place, patch)
        for place, video in enumerate(sidecar.videos)
        for patch in range(video.num_patches)
    ]
    missing = len(set(promised) - set(order))
    extra = len(set(order) - set(promised))
    if missing or extra:
        detail = f"{missing} of {len(promised)} records are missing, {extra} are too many"
        yield str(Problem.WRONG_RECORDS), detail
    elif key.split != TRAIN and order != promised:
        yield str(Problem.WRONG_RECORDS), "the records are not in order of video and time"
    elif (num_bytes, digest) != (sidecar.num_bytes, sidecar.sha256):
        yield (
            str(Problem.WRONG_DIGEST),
            f"SHA-256 is {digest}, the sidecar says {sidecar.sha256}",
        )
    for video in sidecar.videos:
        home = sharding.shard_of(video.id, key.split, key.num_shards)
        if home.index != key.index:
            yield str(Problem.WRONG_RECORDS), f"{video.id!r} belongs to shard {home.index}"


def _print_of(split: str, video_id: str, video: _VideoSoFar, front_end: FrontEnd) -> VideoPrint:
    digest = ""
    if video.num_constant < len(video.digests):
        digest = hashlib.sha256(
            b"".join(video.digests[index] for index in sorted(video.digests))
        ).hexdigest()[:16]
    stored = [video.first_patches[index] for index in sorted(video.first_patches)]
    values = np.frombuffer(b"".join(stored), front_end.storage.dtype)
    log_mel = front_end.storage.decode(values.reshape(-1, *front_end.log_mel.patch_shape))
    return VideoPrint(split, video_id, digest, fingerprint.make_print(log_mel).tobytes())


def damages_of(findings: ShardFindings) -> tuple[Damage, ...]:
    """What is wrong with one shard."""
    return findings.damages


def prints_of(findings: ShardFindings) -> tuple[VideoPrint, ...]:
    """The fingerprints of one shard's soundtracks."""
    return findings.prints


def account_of(findings: ShardFindings) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one shard: ((split, field), number)."""
    split = findings.key.split
    if findings.sidecar is not None:
        yield from totals.count_shard(findings.sidecar)
    yield (split, "num_constant"), findings.num_constant
    yield (split, "num_incomparable"), findings.num_incomparable


def labels_of(findings: ShardFindings) -> Iterator[tuple[str, np.ndarray]]:
    """(split, int64 [labels]: the shard's videos that bear each label)."""
    if findings.label_videos is not None:
        yield findings.key.split, findings.label_videos


def evidence_of(findings: ShardFindings) -> Iterator[tuple[str, Evidence]]:
    """(split/group, evidence) of a training shard."""
    if findings.evidence is not None:
        yield f"{findings.key.split}/{findings.key.group}", findings.evidence


def add_arrays(arrays: Iterable[np.ndarray]) -> np.ndarray | int:
    """The sum of label histograms; 0 of none."""
    return sum(arrays)


def kind_of(copy: Copy) -> str:
    """A leak is a copy in another split."""
    return "within" if copy.split == copy.other_split else "leak"


def leak_of(copy: Copy) -> Iterator[list[Copy]]:
    """The copy as a list, where it is a leak."""
    if kind_of(copy) == "leak":
        yield [copy]


def first_leaks(leaks: Iterable[list[Copy]]) -> list[Copy]:
    """The leaks that are listed; takes and gives lists, to be combined step by step."""
    return sorted(copy for some in leaks for copy in some)[:_LISTED_LEAKS]


def find_strays(folder: str, keys: Iterable[ShardKey]) -> list[Damage]:
    """Files that readers of the folder would take for shards, and that are of none."""
    wanted = {key.path(PATCHES) for key in keys}
    found = files.list_files(folder, f"*/*/{PATCHES}-*")
    paths = [path.removeprefix(folder).lstrip("/") for path in found]
    return [
        Damage(path, str(Problem.STRAY_FILE), "is of no shard that features.json names")
        for path in paths
        if path.rsplit(".", 1)[0] not in wanted
    ]


def damaged_shards(document: Mapping[str, Any]) -> list[str]:
    """Paths without suffix of the shards in `audit.json` that must be extracted again.

    Raises:
      JobFailedError: shards are damaged, and nothing says which.
    """
    problems = {one["problem"] for one in document["damages"]}
    if Problem.WRONG_COUNTS in problems:
        raise JobFailedError(
            "every shard is whole, but one is of another run, and nothing says which; run "
            "`python -m pipelines.extract_features` with --force, which makes all anew"
        )
    # Extraction removes stray files itself.
    damages = document["damages"]
    return sorted({one["path"] for one in damages if one["problem"] != Problem.STRAY_FILE})


def finish(
    made: Mapping[str, Any],
    features: Mapping[str, Any],
    damages: list[Damage],
    account: Mapping[tuple[str, str], int],
    label_videos: Mapping[str, np.ndarray],
    evidence: Mapping[str, Evidence | None],
    copy_counts: Mapping[str, int],
    leaks: list[Copy],
    folder: str,
) -> None:
    """The last stage: the verdict over all shards, in `audit.json`."""
    damages = sorted(damages)
    if not damages:
        damages = list(_compare_with_root(features, account))
    shuffle = {
        group: shuffle_tests.certify(total)
        for group, total in sorted(evidence.items())
        if total is not None
    }
    num_leaks = copy_counts.get("leak", 0)
    splits = {
        split: {
            "num_shards": sum(counts["num_shards"].values()),
            **{field: account.get((split, field), 0) for field in _COUNTS},
            "num_constant": account.get((split, "num_constant"), 0),
            "num_incomparable": account.get((split, "num_incomparable"), 0),
            "label_videos": np.asarray(label_videos.get(split, ())).tolist(),
        }
        for split, counts in features["splits"].items()
    }
    folders.write_root(
        folder,
        AUDIT,
        {
            **made,
            "clean": not damages
            and not num_leaks
            and all(group["passed"] for group in shuffle.values()),
            "damages": [damage._asdict() for damage in damages],
            "num_leaks": num_leaks,
            "leaks": [leak._asdict() for leak in leaks],
            "num_copies_within_splits": copy_counts.get("within", 0),
            "shuffle": shuffle,
            "splits": splits,
        },
    )


def _compare_with_root(
    features: Mapping[str, Any], account: Mapping[tuple[str, str], int]
) -> Iterator[Damage]:
    """What only the sums over shards show: a shard that is whole, and of another run."""
    for split, promised in features["splits"].items():
        found: dict[str, Any] = {field: account[split, field] for field in _COUNTS}
        found["fingerprint"] = totals.fingerprint_split(account, split)
        for field, value in found.items():
            if value != promised[field]:
                detail = f"{field} is {value!r}, {folders.FEATURES} says {promised[field]!r}"
                yield Damage(split, str(Problem.WRONG_COUNTS), detail)
