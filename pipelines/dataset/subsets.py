"""The group of every video within its split: nested training subsets, balanced evaluation sets.

A stable hash gives every video a position in [0, 1). The training subset of n videos is the n
lowest positions of the split, so that each subset contains all smaller ones (section 4.2). An
evaluation set has, for each class, the videos of that class with the lowest draws (section 3.2,
`draws`), with all their labels; a larger label set contains the classes of a smaller one, so these
sets are nested too. A subset is therefore the first few groups of its split, and to read it is to
read their folders.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from features.contracts import sharding
from features.contracts.sharding import (
    ALL,
    EVALUATION,
    REST,
    SPLITS,
    TRAIN,
)
from features.errors import InputError
from features.front_end.params import LogMelParams
from pipelines.dataset.counts import NUM_RANGES, CorpusCounts
from pipelines.dataset.subset_request import SubsetRequest


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetPlan:
    """The groups of every split, and the number of shards of each.

    Attributes:
      num_videos: of all splits.
      groups: split -> names; the last group has the videos that are in no subset.
      ends: float64, rising: upper ends of the groups of the training split, without the last.
      drawn: float64, rising: positions of the evaluation videos of balanced sets.
      drawn_groups: [drawn] groups of these videos.
      num_shards: split -> group -> shards, of the groups that have a video.
      subsets: split -> name of a subset -> its groups that have a video.
    """

    num_videos: int
    groups: Mapping[str, tuple[str, ...]]
    ends: np.ndarray
    drawn: np.ndarray
    drawn_groups: np.ndarray
    num_shards: Mapping[str, Mapping[str, int]]
    subsets: Mapping[str, Mapping[str, tuple[str, ...]]]

    def groups_of(self, split: str, positions: np.ndarray) -> np.ndarray:
        """Int [videos]: indices into `groups[split]` of videos at these positions."""
        if split == TRAIN:
            return np.searchsorted(self.ends, positions, side="right")
        places = np.full(len(positions), len(self.groups[split]) - 1)
        if split == EVALUATION:
            found = np.searchsorted(self.drawn, positions)
            found[found == len(self.drawn)] = 0
            is_drawn = self.drawn[found] == positions if len(self.drawn) else found < 0
            places[is_drawn] = self.drawn_groups[found[is_drawn]]
        return places


def plan_subsets(
    counts: CorpusCounts,
    num_labels: int,
    request: SubsetRequest,
    present_shards: Mapping[str, Mapping[str, int]],
) -> SubsetPlan:
    """Decide the groups and their numbers of shards.

    Args:
      counts: of all videos.
      num_labels: of the vocabulary.
      request: the requested subsets.
      present_shards: split -> group -> shards of an earlier, smaller corpus.

    Raises:
      InputError: a subset is larger than its split or label set.
    """
    ends, training = _training(counts, request)
    drawn, drawn_groups, evaluation = _evaluation(counts, num_labels, request)
    tables = {TRAIN: training, EVALUATION: evaluation}
    num_shards: dict[str, dict[str, int]] = {}
    subsets: dict[str, dict[str, tuple[str, ...]]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for place, split in enumerate(SPLITS):
        cut = tables.get(split, {})  # group -> (videos, milliseconds)
        rest = np.array([counts["videos"][place], counts["milliseconds"][place]])
        rest = rest - np.sum([*cut.values()], axis=0) if cut else rest
        sizes = {**cut, (REST if cut else ALL): rest}
        names[split] = tuple(sizes)
        shards = {
            group: sharding.num_shards(
                int(videos),
                float(milliseconds) / 1000,
                LogMelParams(),
                present_shards.get(split, {}).get(group),
            )
            for group, (videos, milliseconds) in sizes.items()
            if videos
        }
        if shards:
            nested = itertools.accumulate([group] for group in cut)
            num_shards[split] = shards
            subsets[split] = {
                name: tuple(group for group in groups if group in shards)
                for name, groups in zip(cut, nested, strict=True)
            }
    num_videos = int(counts["videos"].sum())
    return SubsetPlan(num_videos, names, ends, drawn, drawn_groups, num_shards, subsets)


def _training(
    counts: CorpusCounts, request: SubsetRequest
) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """Upper ends of the groups, and group -> (videos, milliseconds)."""
    if not request.training:
        return np.empty(0), {}
    total = int(counts["videos"][list(SPLITS).index(TRAIN)])
    sizes = {
        name: round(float(name) * total) if "." in name else int(name) for name in request.training
    }
    for name, size in sizes.items():
        if not 1 <= size <= total:
            raise InputError(
                f"--subsets: {name} is {size} videos; the training split has {total}; ask for 1 "
                "to as many"
            )
    names = sorted(sizes, key=lambda name: sizes[name])
    videos = np.concatenate([[0], np.cumsum(counts["range_videos"])])
    milliseconds = np.concatenate([[0], np.cumsum(counts["range_milliseconds"])])
    wanted = np.array([sizes[name] for name in names])
    above = np.searchsorted(videos, wanted)
    # The closest end of a range.
    cuts = np.where(videos[above] - wanted <= wanted - videos[above - 1], above, above - 1)
    steps = np.diff(videos[cuts], prepend=0), np.diff(milliseconds[cuts], prepend=0)
    return cuts / NUM_RANGES, dict(zip(names, zip(*steps, strict=True), strict=True))


def _evaluation(
    counts: CorpusCounts, num_labels: int, request: SubsetRequest
) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[int, int]]]:
    """Positions of the drawn videos, their groups, and group -> (videos, milliseconds)."""
    if not request.balanced:
        return np.empty(0), np.empty(0, np.int64), {}
    if request.balanced[-1] > num_labels:
        raise InputError(
            f"--balanced-sets: received {request.balanced[-1]}; the vocabulary has {num_labels} "
            "labels; ask for as many or fewer"
        )
    if not counts["videos"][list(SPLITS).index(EVALUATION)]:
        raise InputError(
            "--balanced-sets: no video is in the evaluation split; put some into it, or leave out "
            "the flag"
        )
    # The most frequent of the labels that a video is drawn for decides its group: the smallest
    # label set with that label is the smallest set that contains the video.
    best = counts.drawn[np.lexsort((counts.drawn["label"], counts.drawn["position"]))]
    drawn, first = np.unique(best["position"], return_index=True)
    groups = np.searchsorted(request.balanced, best["label"][first], side="right")
    number = len(request.balanced)
    videos = np.bincount(groups, minlength=number)
    milliseconds = np.bincount(groups, weights=best["milliseconds"][first], minlength=number)
    sizes = zip(videos.tolist(), milliseconds.astype(np.int64).tolist(), strict=True)
    return drawn, groups, dict(zip(map(str, request.balanced), sizes, strict=True))
