"""Evaluation sets whose videos share origins, and how often intervals hold the expected metric."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.special

from evaluation.metrics import jackknife
from evaluation.metrics.origins import SharedOrigins
from features import ranking
from features.ranking import Block

NUM_CLASSES = 10
Members = list[tuple[str, ...]]  # origins of each video


# Of the scores of a second system: those of the first, plus noise, and less for a label.
OTHER_NOISE, OTHER_LOSS = 0.7, 0.2


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Shares of the sets whose interval holds the mean over all sets.

    Attributes:
      by_origin, by_video: of AUC (and d', a rising function of it) and of AP.
      difference: by origin, of the differences of two systems on the same videos: AUC, d' and AP.
    """

    by_origin: tuple[float, ...]
    by_video: tuple[float, ...]
    difference: tuple[float, ...]


def draw_clusters(rng: np.random.Generator, num_origins: int) -> Members:
    """Videos of one origin each, 1 to 20 an origin."""
    sizes = rng.integers(1, 21, num_origins)
    return [(f"origin {place}",) for place in np.repeat(np.arange(num_origins), sizes)]


def compose(rng: np.random.Generator, num_soundtracks: int, num_clips: int) -> Members:
    """Soundtracks of 2 to 5 clips; a clip is used again after all others, as in `composition`."""
    counts = rng.integers(2, 6, num_soundtracks)
    rounds = [rng.permutation(num_clips) for _ in range(counts.sum() // num_clips + 1)]
    parts = np.split(np.concatenate(rounds)[: counts.sum()], np.cumsum(counts)[:-1])
    return [tuple(f"clip {clip}" for clip in sorted(set(part.tolist()))) for part in parts]


def share_of_origins(members: Members) -> np.ndarray:
    """Weights of the origins in a video, [videos, origins]; their squares add up to 1."""
    names = sorted({name for own in members for name in own})
    index = {name: place for place, name in enumerate(names)}
    shares = np.zeros((len(members), len(names)))
    for row, own in enumerate(members):
        shares[row, [index[name] for name in own]] = len(own) ** -0.5
    return shares


def draw_effect(rng: np.random.Generator, shares: np.ndarray, columns: int) -> np.ndarray:
    """Normal, of variance 1, [videos, columns]: half of it is of the origins."""
    of_origins = shares @ rng.normal(size=(shares.shape[1], columns))
    return (of_origins + rng.normal(size=of_origins.shape)) * 0.5**0.5


def draw_set(
    rng: np.random.Generator, members: Members
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two systems, and truth, [videos, classes].

    The topics and the loudness of a video are in part those of its origins; they make its labels
    and its scores hang together.
    """
    shares = share_of_origins(members)
    latent = draw_effect(rng, shares, NUM_CLASSES)
    truth = latent > scipy.special.ndtri(1 - np.geomspace(0.3, 0.06, NUM_CLASSES))
    gain = np.linspace(0.5, 2.5, NUM_CLASSES)
    shared = 0.5 * draw_effect(rng, shares, 1)
    scores = truth * gain + shared + draw_effect(rng, shares, NUM_CLASSES)
    noise = OTHER_NOISE * draw_effect(rng, shares, NUM_CLASSES)
    other = scores - OTHER_LOSS * truth + noise
    return scores.astype(np.float32), other.astype(np.float32), truth


@dataclasses.dataclass(frozen=True)
class Measured:
    """AUC and AP of a system, means over the classes, and those without each video."""

    auc: float
    ap: float
    left_out: jackknife.LeftOut


def measure(scores: np.ndarray, truth: np.ndarray, members: Members) -> Measured:
    """Measure a system, and again without each video."""
    block = Block(scores, *np.nonzero(truth))
    positives = ranking.gather_positives(block)
    ranks = ranking.rank_positives(scores, positives)
    left_out = jackknife.leave_one_out(block, [""] * len(members), members, positives, ranks)
    classes = ranking.class_metrics(positives, ranks)
    return Measured(float(np.nanmean(classes.auc)), float(np.nanmean(classes.ap)), left_out)


def measure_coverage(draw: Callable[[np.random.Generator], Members], num_sets: int) -> Coverage:
    """Draw evaluation sets from one source, and count the intervals that hold the mean metric."""
    rng = np.random.default_rng(7)
    by_origin, by_video, difference = [], [], []
    for _ in range(num_sets):
        members = draw(rng)
        scores, other, truth = draw_set(rng, members)
        shared = SharedOrigins.of([str(row) for row in range(len(members))], members, share=1.0)
        a, b = measure(scores, truth, members), measure(other, truth, members)
        by_origin.append(_intervals(a, shared))
        by_video.append(_intervals(a, None))
        difference.append(_difference(a, b, shared))
    return Coverage(_covered(by_origin), _covered(by_video), _covered(difference))


def _covered(sets: list[list[tuple[float, float, float]]]) -> tuple[float, ...]:
    """Shares of the sets, by metric, whose interval holds the mean; of (value, low, high)."""
    value, low, high = np.moveaxis(np.array(sets), 2, 0)
    held = (low <= value.mean(axis=0)) & (value.mean(axis=0) <= high)
    return tuple(held.mean(axis=0).tolist())


def _intervals(a: Measured, shared: SharedOrigins | None) -> list[tuple[float, float, float]]:
    num_videos = len(a.left_out.video_ids)
    of_auc = jackknife.auc_interval(a.auc, a.left_out.mean_auc, num_videos, shared)
    of_ap = jackknife.ap_interval(a.ap, a.left_out.mean_ap, num_videos, shared)
    assert of_auc is not None
    assert of_ap is not None
    return [(a.auc, *of_auc), (a.ap, *of_ap)]


def _difference(
    a: Measured, b: Measured, shared: SharedOrigins
) -> list[tuple[float, float, float]]:
    """As `evaluation.metrics.comparison.compare`."""
    d_prime = ranking.d_prime
    pairs = [
        (a.auc - b.auc, a.left_out.mean_auc - b.left_out.mean_auc),
        (
            float(d_prime(a.auc) - d_prime(b.auc)),
            d_prime(a.left_out.mean_auc) - d_prime(b.left_out.mean_auc),
        ),
        (a.ap - b.ap, a.left_out.mean_ap - b.left_out.mean_ap),
    ]
    found = []
    for value, left_out in pairs:
        interval = jackknife.difference_interval(value, left_out, len(left_out), shared)
        assert interval is not None
        found.append((value, *interval))
    return found
