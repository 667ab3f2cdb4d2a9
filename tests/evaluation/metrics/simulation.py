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


@dataclasses.dataclass(frozen=True)
class CoverageOfSets:
    """Shares of the sets whose interval holds the expected value: of AUC (and d'), and of AP."""

    auc: float
    ap: float


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


def draw_set(rng: np.random.Generator, members: Members) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth, [videos, classes].

    The topics and the loudness of a video are in part those of its origins; they make its labels
    and its scores hang together.
    """
    names = sorted({name for own in members for name in own})
    index = {name: place for place, name in enumerate(names)}
    shares = np.zeros((len(members), len(names)))
    for row, own in enumerate(members):
        shares[row, [index[name] for name in own]] = len(own) ** -0.5

    def effect(columns: int) -> np.ndarray:
        """Normal, of variance 1: half of it is of the origins."""
        of_origins = shares @ rng.normal(size=(len(names), columns))
        return (of_origins + rng.normal(size=of_origins.shape)) * 0.5**0.5

    latent = effect(NUM_CLASSES)
    truth = latent > scipy.special.ndtri(1 - np.geomspace(0.3, 0.06, NUM_CLASSES))
    gain = np.linspace(0.5, 2.5, NUM_CLASSES)
    shared = 0.5 * effect(1)
    scores = truth * gain + shared + effect(NUM_CLASSES)
    return scores.astype(np.float32), truth


def measure_coverage(
    draw: Callable[[np.random.Generator], Members], num_sets: int, *, by_origin: bool
) -> CoverageOfSets:
    """Draw evaluation sets from one source, and count the intervals that hold the mean metric."""
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(num_sets):
        members = draw(rng)
        scores, truth = draw_set(rng, members)
        rows.append(_intervals(scores, truth, members, by_origin))
    auc, auc_low, auc_high, ap, ap_low, ap_high = np.array(rows).T
    return CoverageOfSets(
        auc=float(np.mean((auc_low <= auc.mean()) & (auc.mean() <= auc_high))),
        ap=float(np.mean((ap_low <= ap.mean()) & (ap.mean() <= ap_high))),
    )


def _intervals(
    scores: np.ndarray, truth: np.ndarray, members: Members, by_origin: bool
) -> tuple[float, ...]:
    block = Block(scores, *np.nonzero(truth))
    positives = ranking.gather_positives(block)
    ranks = ranking.rank_positives(scores, positives)
    ids = [str(row) for row in range(len(scores))]
    left_out = jackknife.leave_one_out(block, ids, members, positives, ranks)
    shared = SharedOrigins.of(ids, members, share=1.0) if by_origin else None
    classes = ranking.class_metrics(positives, ranks)
    auc, ap = float(np.nanmean(classes.auc)), float(np.nanmean(classes.ap))
    of_auc = jackknife.auc_interval(auc, left_out.mean_auc, len(scores), shared)
    of_ap = jackknife.ap_interval(ap, left_out.mean_ap, len(scores), shared)
    assert of_auc is not None
    assert of_ap is not None
    return (auc, *of_auc, ap, *of_ap)
