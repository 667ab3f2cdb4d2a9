"""Where events are, by a network that learned only which soundtracks have them.

A patch is active for a label where an event of the label fills half of it, or lies in it by half of
its own length; so a short event is in the patch that holds it, and none is lost.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from evaluation.metrics.selection import Opened
from evaluation.scoring.shard import FRAMES, PARQUET_SUFFIX, read_vectors
from features import ranking
from features.contracts import sharding
from features.contracts.labels import Vocabulary
from features.errors import InputError
from features.ranking import Block, ClassMetrics
from features.storage import files

_COLUMNS = ("id", "label", "start", "end")
_READERS = {".csv": pyarrow.csv.read_csv, ".jsonl": pyarrow.json.read_json}
# Times are decimal fractions: half of 0.96 is no binary number.
_TOLERANCE = 1e-6
_NAMED = 5

# Soundtrack id -> (label, start, end) of its events, in seconds.
Events = Mapping[str, Sequence[tuple[int, float, float]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """The patches of all soundtracks whose events are known.

    Attributes:
      video: int64 [patches], the number of the soundtrack, rising.
      scores: float32 [patches, labels].
      active: bool [patches, labels], where the events are.
    """

    video: np.ndarray
    scores: np.ndarray
    active: np.ndarray

    @property
    def num_videos(self) -> int:
        """How many soundtracks."""
        return int(self.video[-1]) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Localisation:
    """Figures of each class, NaN where undefined.

    Attributes:
      patches: over all patches.
      ap_of_soundtrack: float64 [labels], AP of the mean score of the soundtrack.
      ap_within, prior_within: float64 [labels], over the patches of soundtracks with the label.
    """

    patches: ClassMetrics
    ap_of_soundtrack: np.ndarray
    ap_within: np.ndarray
    prior_within: np.ndarray


def read_events(path: str, vocabulary: Vocabulary) -> Events:
    """The events of a Parquet, JSON lines or CSV file.

    Raises:
      InputError: it cannot be read, or an event has no label of the vocabulary or no duration.
    """
    read = next((_READERS[end] for end in _READERS if path.lower().endswith(end)), pq.read_table)
    try:
        with files.open_read(path) as file:
            table = read(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"--events {path}: cannot be read: {error}; give Parquet, .jsonl or .csv"
        ) from error
    for column in _COLUMNS:
        if column not in table.column_names:
            raise InputError(
                f"--events {path}: no column {column!r}; it has "
                f"{', '.join(map(repr, table.column_names))}; expected {', '.join(_COLUMNS)}"
            )
    index_of = {label: index for index, label in enumerate(vocabulary.ids)}
    events: dict[str, list[tuple[int, float, float]]] = collections.defaultdict(list)
    unknown = set()
    for row in table.select(_COLUMNS).to_pylist():
        start, end = row["start"], row["end"]
        if start is None or end is None or not 0 <= start < end < math.inf:
            raise InputError(
                f"--events {path}: start {start!r} and end {end!r} of {row['id']!r}; expected "
                "0 <= start < end, in seconds"
            )
        if row["label"] in index_of:
            events[str(row["id"])].append((index_of[row["label"]], start, end))
        else:
            unknown.add(str(row["label"]))
    if unknown:
        named = ", ".join(map(repr, sorted(unknown)[:_NAMED]))
        raise InputError(
            f"--events {path}: column label: {len(unknown)} labels have no scores: {named}; the "
            "network knows other labels, or fewer: remove these events"
        )
    return events


def read_frames(opened: Opened, events: Events) -> Frames:
    """The patches of the soundtracks that have events, all in memory.

    Raises:
      InputError: none of them has scores.
    """
    selection, document, vocabulary = opened
    numbers: dict[str, int] = {}
    video, scores, active = [], [], []
    for key in sharding.keys(selection.split, selection.num_shards):
        path = files.join(selection.folder, key.path(FRAMES)) + PARQUET_SUFFIX
        try:
            with files.open_read(path) as file:
                table = pq.read_table(file)
        except FileNotFoundError:  # a shard without patches
            continue
        ids = np.array(table["video_id"].to_pylist(), object)
        starts = table["start_seconds"].to_numpy()
        vectors = read_vectors(table["scores"])
        for video_id in dict.fromkeys(ids):
            if video_id in events:
                own = np.flatnonzero(ids == video_id)
                number = numbers.setdefault(video_id, len(numbers))
                video.append(np.full(len(own), number))
                scores.append(vectors[own])
                active.append(
                    active_patches(
                        starts[own],
                        events[video_id],
                        patch_seconds=document["patch_seconds"],
                        num_labels=len(vocabulary),
                    )
                )
    if not video:
        raise InputError(
            f"--events: none of its {len(events)} ids has frame scores in {selection.folder}; "
            "give the events of the soundtracks that were scored"
        )
    return Frames(np.concatenate(video), np.concatenate(scores), np.concatenate(active))


def active_patches(
    start_seconds: np.ndarray,
    events: Sequence[tuple[int, float, float]],
    *,
    patch_seconds: float,
    num_labels: int,
) -> np.ndarray:
    """Which patches of a soundtrack are active for which labels, bool [patches, labels].

    Args:
      start_seconds: [patches], where they start.
      events: (label, start, end).
      patch_seconds: how long a patch is.
      num_labels: of the vocabulary.
    """
    active = np.zeros((len(start_seconds), num_labels), bool)
    starts = start_seconds.astype(np.float64)
    for label, start, end in events:
        overlap = np.minimum(starts + patch_seconds, end) - np.maximum(starts, start)
        active[:, label] |= overlap >= min(patch_seconds, end - start) / 2 - _TOLERANCE
    return active


def localise(frames: Frames) -> Localisation:
    """The figures of each class."""
    counts = np.bincount(frames.video)
    sums = np.zeros((frames.num_videos, frames.scores.shape[1]))
    np.add.at(sums, frames.video, frames.scores)
    means = (sums / counts[:, None]).astype(np.float32)  # [soundtracks, labels]
    has_label = np.zeros(means.shape, bool)
    np.logical_or.at(has_label, frames.video, frames.active)
    num_labels = frames.scores.shape[1]
    ap_within, prior_within = np.full((2, num_labels), np.nan)
    for label in np.flatnonzero(has_label.any(axis=0)):
        rows = has_label[frames.video, label]
        within = _measure(frames.scores[rows, label, None], frames.active[rows, label, None])
        ap_within[label], prior_within[label] = within.ap[0], within.priors[0]
    return Localisation(
        patches=_measure(frames.scores, frames.active),
        ap_of_soundtrack=_measure(means[frames.video], frames.active).ap,
        ap_within=ap_within,
        prior_within=np.where(np.isnan(ap_within), np.nan, prior_within),
    )


def _measure(scores: np.ndarray, active: np.ndarray) -> ClassMetrics:
    return ranking.measure_classes(Block(scores, *np.nonzero(active)))


def means(figures: Localisation) -> dict[str, Any]:
    """The means over the classes, for `localisation.json`.

    Raises:
      InputError: no class is active in some patches and not in others.
    """
    defined = figures.patches.defined
    within = ~np.isnan(figures.ap_within)
    if not within.any():
        raise InputError(
            "--events: no label is active in some patches of its soundtracks and not in others; "
            "there is nothing to localise"
        )
    return {
        "num_classes_evaluated": int(defined.sum()),
        "mean_ap": float(figures.patches.ap[defined].mean()),
        "mean_ap_of_soundtrack": float(figures.ap_of_soundtrack[defined].mean()),
        "prior_mean_ap": float(figures.patches.priors[defined].mean()),
        "mean_ap_within": float(figures.ap_within[within].mean()),
        "prior_mean_ap_within": float(figures.prior_within[within].mean()),
    }


def per_class_table(figures: Localisation, vocabulary: Vocabulary) -> pa.Table:
    """`per_class.parquet`; null where a figure is undefined."""

    def column(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=np.isnan(values))

    return pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "active_patches": figures.patches.positives,
            "prior": figures.patches.priors,
            "ap": column(figures.patches.ap),
            "ap_of_soundtrack": column(figures.ap_of_soundtrack),
            "ap_within": column(figures.ap_within),
            "prior_within": column(figures.prior_within),
        }
    )
