"""How often labels and recordings are used in a composed corpus.

Priors of real labels span many orders of magnitude: in the paper's Table 1 from above 0.1 to 1e-5.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import SPLITS, TRAIN
from pipelines.corpus.clips import Clip


@dataclass(frozen=True, kw_only=True)
class LabelLaw:
    """The law of Zipf and Mandelbrot for the labels of soundtracks.

    Mandelbrot, *An Informational Theory of the Statistical Structure of Language*, 1953. Zipf's own
    law has a shift of 0: over some tens of labels it cannot span three decades of priors without
    one label in most soundtracks.

    Attributes:
      exponent, shift: the label of rank r, from 1, is drawn with a probability proportional to
        (r + shift) ** -exponent. The order of the labels is random, and the same in all splits.
      labels: range of the number of labels that are drawn for a soundtrack.
      least: soundtracks of the validation split, and of the evaluation split, that every label has
        at least. A training split has every label at least once. The first label of so many
        soundtracks is given in turn and not drawn.
    """

    exponent: float
    shift: float
    labels: tuple[int, int]
    least: int = 0

    def probabilities(self, num_labels: int) -> np.ndarray:
        """Float64 [labels] in the order of rank; their sum is 1."""
        weights = (np.arange(1.0, num_labels + 1) + self.shift) ** -self.exponent
        return weights / weights.sum()


def rank_labels(clips: Sequence[Clip], seed: int) -> list[str]:
    """The labels of clips in random order, which does not depend on the order of the clips."""
    labels = sorted({label for clip in clips for label in clip.labels})
    # Other seeds than those of the splits.
    return [
        labels[place]
        for place in np.random.default_rng((seed, len(SPLITS))).permutation(len(labels))
    ]


def shuffle_forever(clips: Sequence[Clip], rng: Generator) -> Iterator[Clip]:
    """Give all clips in a random order, then all clips in another random order, without end."""
    while True:
        for index in rng.permutation(len(clips)):
            yield clips[index]


def draw_by_label(
    clips: Sequence[Clip],
    ranking: Sequence[str],
    law: LabelLaw,
    *,
    split: str,
    rng: Generator,
) -> Iterator[Iterator[Clip]]:
    """For each soundtrack of a split, without end: clips of its labels in turn, without end.

    Args:
      clips: of the split.
      ranking: labels, of which the split may lack some.
      law: how often the labels are drawn.
      split: of the clips.
      rng: source of the draws.
    """
    own = {label: [clip for clip in clips if label in clip.labels] for label in ranking}
    ranks = [rank for rank, label in enumerate(ranking) if own[label]]
    queues = {rank: shuffle_forever(own[ranking[rank]], rng) for rank in ranks}
    probabilities = law.probabilities(len(ranking))[ranks]
    probabilities /= probabilities.sum()
    num_given = (1 if split == TRAIN else law.least) * len(ranks)
    for index in itertools.count():
        number = min(int(rng.integers(law.labels[0], law.labels[1] + 1)), len(ranks))
        drawn = rng.choice(ranks, size=number, replace=False, p=probabilities).tolist()
        if index < num_given:
            given = ranks[index % len(ranks)]
            drawn = [given, *(rank for rank in drawn if rank != given)][:number]
        yield (next(queues[rank]) for rank in itertools.cycle(drawn))


def limit_recordings(clips: Sequence[Clip], number: int, seed: int) -> tuple[list[Clip], int]:
    """Keep a random choice of the recordings of each label in the training split.

    Args:
      clips: of all splits.
      number: of recordings of a label, at most.
      seed: of the choice.

    Returns:
      The clips of other splits and of the chosen recordings, and the number of other clips.
    """
    rng = np.random.default_rng((seed, len(SPLITS) + 1))
    training = [clip for clip in clips if clip.split == TRAIN]
    chosen: set[tuple[str, ...]] = set()
    for label in sorted({label for clip in training for label in clip.labels}):
        recordings = sorted({clip.origins for clip in training if label in clip.labels})
        chosen.update(recordings[place] for place in rng.permutation(len(recordings))[:number])
    kept = [clip for clip in clips if clip.split != TRAIN or clip.origins in chosen]
    return kept, len(clips) - len(kept)
