"""Which clips a network classifies correctly, and the interval of its accuracy over recordings."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special

from evaluation.metrics import seeds
from evaluation.metrics.jackknife import Interval
from evaluation.metrics.origins import SharedOrigins
from evaluation.metrics.seeds import SeededMetric
from evaluation.metrics.selection import choose_interval, open_scores, read_block


@dataclasses.dataclass(frozen=True, eq=False)
class ClipScores:
    """The clips of a SCORES folder, by id.

    Attributes:
      ids: [clips], sorted.
      origins: [clips], what each was cut from.
      is_correct: bool [clips], whether the highest score is that of a label of the clip.
    """

    ids: tuple[str, ...]
    origins: tuple[tuple[str, ...], ...]
    is_correct: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of the clips that are classified correctly."""
        return float(self.is_correct.mean())

    def where(self, is_wanted: Callable[[str], bool]) -> "ClipScores":
        """The clips whose ids are wanted."""
        kept = [place for place, name in enumerate(self.ids) if is_wanted(name)]
        return ClipScores(
            tuple(self.ids[place] for place in kept),
            tuple(self.origins[place] for place in kept),
            self.is_correct[kept],
        )

    @classmethod
    def join(cls, parts: Sequence["ClipScores"]) -> "ClipScores":
        """The clips of several folders, of which no two have the same."""
        ids = [name for part in parts for name in part.ids]
        origins = [names for part in parts for names in part.origins]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return cls(
            tuple(ids[place] for place in order),
            tuple(origins[place] for place in order),
            np.concatenate([part.is_correct for part in parts])[order],
        )


def read_scores(folder: str) -> ClipScores:
    """Read a SCORES folder, which fits into memory.

    Raises:
      InputError: the folder is invalid.
    """
    [selected] = choose_interval(None, open_scores(folder, flag="--scores"))
    parts = []
    for keys in selected.selection.blocks():
        videos = read_block(selected.selection, keys)
        block = videos.block
        is_hit = block.scores.argmax(axis=1)[block.video] == block.label
        is_correct = np.zeros(block.num_videos, bool)
        is_correct[block.video[is_hit]] = True
        parts.append(ClipScores(videos.ids, videos.origins, is_correct))
    return ClipScores.join(parts)


def accuracy_interval(scores: Sequence[ClipScores]) -> Interval | None:
    """95 % interval of the mean accuracy over seeds, for other recordings and other seeds.

    Clips of one recording are not independent: the variance is that over recordings
    (`evaluation.metrics.origins`). The interval is symmetric on the scale of the logit, so that it
    stays below 1.

    Args:
      scores: of the same clips, one for each seed.

    Returns:
      Lower and upper end; None if all clips are right, or too few to tell.
    """
    num_clips = len(scores[0].ids)
    correct = np.stack([of_seed.is_correct for of_seed in scores]).astype(np.float64)
    values = correct.mean(axis=1)
    left_out = (num_clips * values[:, None] - correct) / (num_clips - 1)
    shared = SharedOrigins.of(scores[0].ids, scores[0].origins, share=1.0)
    return seeds.transformed_interval(
        SeededMetric(values, left_out),
        num_clips,
        shared,
        scipy.special.logit,
        scipy.special.expit,
    )
