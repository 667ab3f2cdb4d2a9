"""Select videos and labels of a SCORES folder, and read their scores in blocks."""

import argparse
import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics.origins import is_sampled
from evaluation.scoring.shard import VOCABULARY, read_vectors
from features.contracts import folders, sharding
from features.contracts.documents import Scores, ScoreShard
from features.contracts.labels import Vocabulary, read_vocabulary
from features.contracts.scores import PARQUET_SUFFIX, SCORES
from features.contracts.sharding import ShardKey, unit_hash
from features.contracts.shards import read_sidecar
from features.errors import InputError
from features.ranking import Block
from features.storage import files

# Size of a block. Fewer and longer blocks cost less, because positives are looked up in each.
_BLOCK_BYTES = 1e9
_COLUMNS = ("video_id", "labels", "scores")


def groups_of(
    subset: str | None,
    subsets: Mapping[str, Sequence[str]],
    groups: Mapping[str, int],
    *,
    where: str,
) -> list[str]:
    """List the groups of a subset.

    Args:
      subset: name of the subset; None for all groups.
      subsets: name -> groups.
      groups: all groups that have videos.
      where: flag and folder, for the message.

    Raises:
      InputError: there is no such subset.
    """
    if subset is None:
        return list(groups)
    if subset not in subsets:
        names = ", ".join(subsets) or "none: pipelines.prepare_dataset makes them"
        raise InputError(f"--subset: received {subset!r}; the subsets of {where} are: {names}")
    return [group for group in subsets[subset] if group in groups]


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Videos and labels of a SCORES folder.

    Attributes:
      folder: SCORES.
      split: of the videos.
      num_shards: group -> shards, of the selected groups.
      num_videos: group -> videos with scores.
      num_columns: scores per video in the files.
      vocabulary_fingerprint: of the columns.
      labels: columns of the selected labels.
      video_hashes: uint64 [videos], hashes of the selected ids; None for all videos.
      by_origin: whether intervals are by the origins of the videos, which are read then.
    """

    folder: str
    split: str
    num_shards: Mapping[str, int]
    num_videos: Mapping[str, int]
    num_columns: int
    vocabulary_fingerprint: str
    labels: tuple[int, ...]
    video_hashes: np.ndarray | None = None
    by_origin: bool = False

    def blocks(self, share: float = 1.0) -> list[list[ShardKey]]:
        """Divide the shards into blocks that fit into memory.

        Args:
          share: of the videos. The hash that decides the shard of a video also decides whether the
            video is in the share, so a share is the same videos in every SCORES folder, and is in
            the first shards.
        """
        blocks: list[list[ShardKey]] = []
        room = 0.0
        for key in sharding.keys(self.split, self.num_shards):
            if key.index / key.num_shards >= share:
                continue
            size = 4 * self.num_columns * self.num_videos[key.group] / key.num_shards
            if size > room:
                blocks.append([])
                room = _BLOCK_BYTES
            blocks[-1].append(key)
            room -= size
        return blocks


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredVideos:
    """The selected videos in a block of shards.

    Attributes:
      ids: [videos].
      origins: [videos], of each; () for a video without any, and if intervals are by video.
      block: scores and labels; labels that are not selected are left out.
      missing: (id, outcome) of the videos without scores.
    """

    ids: tuple[str, ...]
    origins: tuple[tuple[str, ...], ...]
    block: Block
    missing: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SelectedScores:
    """A checked SCORES folder: `scores.json`, a selection, and the vocabulary of the selection."""

    document: Scores
    selection: Selection
    vocabulary: Vocabulary

    @property
    def groups(self) -> tuple[str, ...]:
        """The selected groups of the split."""
        return tuple(self.selection.num_shards)

    @property
    def num_videos_expected(self) -> int:
        """Number of videos of the selected groups, with and without scores."""
        groups = self.document.groups
        return sum(groups[group].num_videos_expected for group in self.groups)


def open_scores(
    folder: str, *, flag: str, num_labels: int | None = None, subset: str | None = None
) -> SelectedScores:
    """Check a SCORES folder and select videos and labels.

    Args:
      folder: SCORES.
      flag: the flag with this folder, for messages.
      num_labels: number of the most frequent labels; None for all labels that have scores.
      subset: of the split; None for all videos.

    Raises:
      InputError: the folder is invalid, or does not have these labels or this subset.
    """
    document = folders.read_document(folder, Scores)
    vocabulary = read_vocabulary(folder)
    folders.require_equal(
        "vocabulary fingerprint",
        expected=document.vocabulary.fingerprint,
        received=vocabulary.fingerprint,
        where=files.join(folder, "labels.parquet"),
        cure="score the videos again: the label file is of another data set",
    )
    # A network of a smaller label set has no score for the rarer labels.
    vocabulary = vocabulary.prefix(document.num_labels)
    size = len(vocabulary) if num_labels is None else num_labels
    if not 1 <= size <= len(vocabulary):
        raise InputError(
            f"--labels: received {num_labels}; {flag} {folder} has scores of {len(vocabulary)}"
        )
    groups = groups_of(subset, document.subsets, document.num_shards, where=f"{flag} {folder}")
    num_videos = {group: document.groups[group].num_videos for group in groups}
    if not sum(num_videos.values()):
        raise InputError(f"{flag} {folder}: no video of the subset {subset!r} was scored")
    selection = Selection(
        folder=folder,
        split=document.split,
        num_shards={group: document.num_shards[group] for group in groups},
        num_videos=num_videos,
        num_columns=len(vocabulary),
        vocabulary_fingerprint=vocabulary.fingerprint,
        labels=tuple(range(size)),
    )
    return SelectedScores(document, selection, vocabulary.prefix(size))


def add_interval_flag(parser: argparse.ArgumentParser) -> None:
    """Add --interval-by, the first argument of `choose_interval`."""
    parser.add_argument(
        "--interval-by",
        choices=("video", "origin"),
        help="what is independent: videos, or their origins (the manifest's group column), so that "
        "videos of one origin count less; default: origin, if videos have some",
    )


def choose_interval(by: str | None, *sources: SelectedScores) -> list[SelectedScores]:
    """Decide whether intervals are by origin; returns the sources with that decision.

    Args:
      by: "video" or "origin", as requested; None for origins if all folders have some.
      sources: the SCORES folders.

    Raises:
      InputError: origins are requested, and a folder has none.
    """
    without = [
        source.selection.folder
        for source in sources
        if not any(source.document.groups[name].num_with_origin for name in source.groups)
    ]
    if by == "origin" and without:
        raise InputError(
            f"--interval-by origin: no video of {' and '.join(without)} has an origin; name the "
            "column of origins in the manifest (pipelines.prepare_dataset --group-column), then "
            "extract and score with the same commands, which keep patches and scores; or give "
            "--interval-by video"
        )
    by_origin = by != "video" and not without
    return [
        dataclasses.replace(
            source, selection=dataclasses.replace(source.selection, by_origin=by_origin)
        )
        for source in sources
    ]


def read_block(selection: Selection, keys: Sequence[ShardKey], share: float = 1.0) -> ScoredVideos:
    """Read the selected videos of some shards.

    Args:
      selection: of the videos and labels.
      keys: of the shards.
      share: of the videos, as in `Selection.blocks`; of the origins if intervals are by origin.

    Raises:
      InputError: a score file belongs to another folder.
    """
    paths = [files.join(selection.folder, key.path(SCORES)) for key in keys]
    sidecars = [read_sidecar(path, ScoreShard) for path in paths]
    num_videos = sum(sidecar.num_videos for sidecar in sidecars)
    # Filled file by file, so that the scores are in memory only once.
    scores = np.empty((num_videos, len(selection.labels)), np.float32)
    ids: list[str] = []
    origins: list[tuple[str, ...]] = []
    labels: list[np.ndarray] = []
    for path, sidecar in zip(paths, sidecars, strict=True):
        if sidecar.num_videos:
            table = _read_scores(path + PARQUET_SUFFIX, selection)
            found = table["video_id"].to_pylist()
            origins_of = sidecar.origins if selection.by_origin else {}
            own = [origins_of.get(video_id, ()) for video_id in found]
            wanted = _wanted(found, own, selection, share)
            table = table.filter(pa.array(wanted))
            rows = slice(len(ids), len(ids) + len(table))
            scores[rows] = _columns(read_vectors(table["scores"]), selection)
            ids += table["video_id"].to_pylist()
            origins += [own[place] for place in np.flatnonzero(wanted)]
            labels += _labels(table["labels"], selection)
    return ScoredVideos(
        ids=tuple(ids),
        origins=tuple(origins),
        block=Block.of_lists(scores[: len(ids)], labels),
        missing=tuple(
            (video.id, video.outcome) for sidecar in sidecars for video in sidecar.missing
        ),
    )


def _wanted(
    ids: Sequence[str],
    origins: Sequence[tuple[str, ...]],
    selection: Selection,
    share: float,
) -> np.ndarray:
    wanted = np.ones(len(ids), bool)
    if share < 1 and selection.by_origin:
        wanted &= is_sampled(ids, origins, share)
    elif share < 1:
        wanted &= np.array([unit_hash("shard", video_id) < share for video_id in ids], bool)
    if selection.video_hashes is not None:
        wanted &= np.isin(video_hashes(ids), selection.video_hashes)
    return wanted


def read_ids(selection: Selection) -> list[str]:
    """Read the ids of the videos that have scores."""
    ids: list[str] = []
    for key in sharding.keys(selection.split, selection.num_shards):
        path = files.join(selection.folder, key.path(SCORES)) + PARQUET_SUFFIX
        with contextlib.suppress(FileNotFoundError), files.open_read(path) as file:
            ids += pq.read_table(file, columns=["video_id"])["video_id"].to_pylist()
    return ids


def video_hashes(ids: Iterable[str]) -> np.ndarray:
    """Hash ids to uint64 [videos]."""
    digests = (hashlib.blake2b(video_id.encode(), digest_size=8).digest() for video_id in ids)
    return np.frombuffer(b"".join(digests), np.uint64)


def _read_scores(path: str, selection: Selection) -> pa.Table:
    with files.open_read(path) as file:
        table = pq.read_table(file, columns=list(_COLUMNS))
    received = (table.schema.metadata or {}).get(VOCABULARY, b"").decode()
    cure = "the file belongs to another folder: score the videos again"
    folders.require_equal(
        "vocabulary fingerprint",
        expected=selection.vocabulary_fingerprint,
        received=received,
        where=path,
        cure=cure,
    )
    folders.require_equal(
        "number of scores per video",
        expected=selection.num_columns,
        received=table.schema.field("scores").type.list_size,
        where=path,
        cure=cure,
    )
    return table


def _columns(scores: np.ndarray, selection: Selection) -> np.ndarray:
    size = len(selection.labels)
    is_prefix = selection.labels == tuple(range(size))
    return scores[:, :size] if is_prefix else scores[:, list(selection.labels)]


def _labels(column: pa.ChunkedArray, selection: Selection) -> Iterator[np.ndarray]:
    """Yield, for each video, the positions of its labels among the selected labels."""
    lists = column.combine_chunks()
    label = lists.flatten().to_numpy()
    place = np.full(max(selection.num_columns, label.max(initial=-1) + 1), -1)
    place[list(selection.labels)] = np.arange(len(selection.labels))
    lengths = lists.value_lengths().to_numpy()
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        places = place[label[start:end]]
        yield places[places >= 0]
