"""Measure how well patch scores locate events in time, though training had labels of soundtracks.

A patch is active for a label if an event of the label covers half of the patch, or has half of its
own length in the patch. So a short event is active in the patch that contains it.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from evaluation.metrics.selection import SelectedScores
from evaluation.scoring.shard import read_vectors
from features import ranking
from features.contracts import folders, sharding
from features.contracts.folders import MadeBy
from features.contracts.labels import Vocabulary
from features.contracts.scores import FRAMES, PARQUET_SUFFIX
from features.errors import InputError
from features.ranking import Block, ClassMetrics
from features.storage import files
from features.typed_json import Document

_COLUMNS = ("id", "label", "start", "end")
_READERS = {".csv": pyarrow.csv.read_csv, ".jsonl": pyarrow.json.read_json}
_TOLERANCE_SECONDS = 1e-6  # decimal fractions such as 0.48 are not exact in binary
_MAX_NAMED = 5  # labels in a message

# Soundtrack id -> (label, start, end) of its events, in seconds.
Events = Mapping[str, Sequence[tuple[int, float, float]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """Patches of all soundtracks that have events.

    Attributes:
      video: int64 [patches], number of the soundtrack, ascending from 0.
      scores: float32 [patches, labels].
      active: bool [patches, labels].
    """

    video: np.ndarray
    scores: np.ndarray
    active: np.ndarray

    @property
    def num_videos(self) -> int:
        """Number of soundtracks."""
        return int(self.video[-1]) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class ClassLocalisation:
    """Metrics of each class; NaN if undefined.

    Attributes:
      patches: over all patches.
      ap_of_soundtrack: float64 [labels], if each patch has the mean score of the soundtrack.
      ap_within, prior_within: float64 [labels], over the patches of soundtracks with the label.
    """

    patches: ClassMetrics
    ap_of_soundtrack: np.ndarray
    ap_within: np.ndarray
    prior_within: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localisation(Document):
    """`localisation.json` at the root of LOCALISATION.

    Attributes:
      made_by: the command.
      scores: the SCORES folder.
      events: path of the events.
      num_videos: soundtracks that have events and scores.
      num_missing: soundtracks that have events and no scores.
      num_patches: of the soundtracks.
      num_classes_evaluated: labels that are active in some patches and inactive in others.
      mean_ap: mean over classes of the AP over all patches.
      mean_ap_of_soundtrack: the same if each patch has the mean score of the soundtrack.
      prior_mean_ap: the same for constant scores.
      mean_ap_within: mean AP over the patches of the soundtracks with the label.
      prior_mean_ap_within: the same for constant scores.
    """

    FILE: ClassVar[str] = folders.LOCALISATION
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    scores: str
    events: str
    num_videos: int
    num_missing: int
    num_patches: int
    num_classes_evaluated: int
    mean_ap: float
    mean_ap_of_soundtrack: float
    prior_mean_ap: float
    mean_ap_within: float
    prior_mean_ap_within: float


def read_events(path: str, vocabulary: Vocabulary) -> Events:
    """Read events from a Parquet, JSON lines or CSV file.

    Raises:
      InputError: the file cannot be read, or an event has an unknown label or no duration.
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
        named = ", ".join(map(repr, sorted(unknown)[:_MAX_NAMED]))
        raise InputError(
            f"--events {path}: column label: {len(unknown)} labels have no scores: {named}; "
            "the network was trained on other labels, or on fewer: remove these events"
        )
    return events


def read_frames(scores: SelectedScores, events: Events) -> Frames:
    """Read the patches of all soundtracks that have events.

    Args:
      scores: with a patch length, that is, scores of a network.
      events: of the soundtracks.

    Raises:
      InputError: none of the soundtracks has scores.
    """
    selection, patch_seconds = scores.selection, scores.document.patch_seconds
    assert patch_seconds is not None  # only scores of a network have frame scores
    numbers: dict[str, int] = {}
    video, frame_scores, active = [], [], []
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
                frame_scores.append(vectors[own])
                active.append(
                    active_patches(
                        starts[own],
                        events[video_id],
                        patch_seconds=patch_seconds,
                        num_labels=len(scores.vocabulary),
                    )
                )
    if not video:
        raise InputError(
            f"--events: none of {len(events)} ids has frame scores in {selection.folder}; "
            "give the events of the soundtracks that were scored"
        )
    return Frames(np.concatenate(video), np.concatenate(frame_scores), np.concatenate(active))


def active_patches(
    start_seconds: np.ndarray,
    events: Sequence[tuple[int, float, float]],
    *,
    patch_seconds: float,
    num_labels: int,
) -> np.ndarray:
    """Find the active patches of a soundtrack.

    Args:
      start_seconds: [patches].
      events: (label, start, end).
      patch_seconds: length of a patch.
      num_labels: of the vocabulary.

    Returns:
      bool [patches, labels].
    """
    active = np.zeros((len(start_seconds), num_labels), bool)
    starts = start_seconds.astype(np.float64)
    for label, start, end in events:
        overlap = np.minimum(starts + patch_seconds, end) - np.maximum(starts, start)
        active[:, label] |= overlap >= min(patch_seconds, end - start) / 2 - _TOLERANCE_SECONDS
    return active


def localise(frames: Frames) -> ClassLocalisation:
    """Measure each class."""
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
    return ClassLocalisation(
        patches=_measure(frames.scores, frames.active),
        ap_of_soundtrack=_measure(means[frames.video], frames.active).ap,
        ap_within=ap_within,
        prior_within=np.where(np.isnan(ap_within), np.nan, prior_within),
    )


def _measure(scores: np.ndarray, active: np.ndarray) -> ClassMetrics:
    return ranking.measure_classes(Block(scores, *np.nonzero(active)))


def summarise(
    frames: Frames, classes: ClassLocalisation, *, scores: str, events: str, num_missing: int
) -> Localisation:
    """The content of `localisation.json`.

    Args:
      frames: the patches.
      classes: metrics of each class.
      scores: the SCORES folder.
      events: path of the events.
      num_missing: soundtracks that have events and no scores.

    Raises:
      InputError: no class is active in some patches and inactive in others.
    """
    defined = classes.patches.defined
    within = ~np.isnan(classes.ap_within)
    if not within.any():
        raise InputError(
            "--events: no label is active in some patches of its soundtracks and inactive in "
            "others; give soundtracks in which events start or end"
        )
    return Localisation(
        made_by=folders.made_by(),
        scores=scores,
        events=events,
        num_videos=frames.num_videos,
        num_missing=num_missing,
        num_patches=len(frames.scores),
        num_classes_evaluated=int(defined.sum()),
        mean_ap=float(classes.patches.ap[defined].mean()),
        mean_ap_of_soundtrack=float(classes.ap_of_soundtrack[defined].mean()),
        prior_mean_ap=float(classes.patches.priors[defined].mean()),
        mean_ap_within=float(classes.ap_within[within].mean()),
        prior_mean_ap_within=float(classes.prior_within[within].mean()),
    )


def per_class_table(classes: ClassLocalisation, vocabulary: Vocabulary) -> pa.Table:
    """The content of `per_class.parquet`; null where a metric is undefined."""

    def column(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=np.isnan(values))

    return pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "active_patches": classes.patches.positives,
            "prior": classes.patches.priors,
            "ap": column(classes.patches.ap),
            "ap_of_soundtrack": column(classes.ap_of_soundtrack),
            "ap_within": column(classes.ap_within),
            "prior_within": column(classes.prior_within),
        }
    )
