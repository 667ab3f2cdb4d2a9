"""Subsets against a plain sort of all positions, balanced sets against a plain loop over labels."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from features.contracts import sharding
from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.dataset.counts import CorpusCounts, CountVideos
from pipelines.dataset.draws import draw_numbers, hash_labels
from pipelines.dataset.splits import INDEXED_SCHEMA
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.subsets import SubsetPlan, plan_subsets

NUM_LABELS = 200
LABEL_HASHES = hash_labels(tuple(map(str, range(NUM_LABELS))))


def make_batch(num_videos: int, seed: int) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    ids = [f"{seed}-{index}" for index in range(num_videos)]
    labels = [sorted(set(np.minimum(rng.zipf(1.4, 5) - 1, NUM_LABELS - 1).tolist())) for _ in ids]
    positions = sharding.unit_hashes("position", ids)
    draws = [
        draw_numbers(LABEL_HASHES[own], np.full(len(own), position)).tolist()
        for own, position in zip(labels, positions, strict=True)
    ]
    columns = {
        "id": ids,
        "uri": ids,
        "start": [None] * num_videos,
        "end": [None if index % 2 else 10.0 for index in range(num_videos)],
        "labels": labels,
        "origins": [[]] * num_videos,
        "split": sharding.splits_of(ids),
        "position": positions,
        "draws": draws,
    }
    return pa.RecordBatch.from_pydict(columns, INDEXED_SCHEMA)


def count_videos(
    batches: list[pa.RecordBatch], request: SubsetRequest, *, bundles: int
) -> CorpusCounts:
    """As a runner does: a part of the batches in each accumulator, compacted, merged."""
    combine = CountVideos(request)
    parts = []
    for bundle in range(bundles):
        counts = combine.create_accumulator()
        for batch in batches[bundle::bundles]:
            counts = combine.add_input(counts, batch)
        parts.append(combine.compact(counts))
    return combine.extract_output(combine.merge_accumulators(parts))


def lay(batches: list[pa.RecordBatch], request: SubsetRequest) -> SubsetPlan:
    return plan_subsets(count_videos(batches, request, bundles=3), NUM_LABELS, request, {})


BATCHES = [make_batch(size, seed) for seed, size in enumerate([4_000, 1, 7_000, 9_000])]
VIDEOS = pa.Table.from_batches(BATCHES)


def in_split(split: str) -> pa.Table:
    return VIDEOS.filter(pa.compute.equal(VIDEOS["split"], list(SPLITS).index(split)))


def test_training_subsets_are_the_lowest_positions_and_nested() -> None:
    request = SubsetRequest.parse("5000,200,0.1", "", 33)
    plan = lay(BATCHES, request)
    train = in_split("train")
    positions = np.sort(train["position"].to_numpy())
    groups = np.array(plan.groups["train"])[plan.groups_of("train", positions)]

    assert plan.groups["train"] == ("200", "0.1", "5000", "rest")
    assert plan.subsets["train"] == {
        "200": ("200",),
        "0.1": ("200", "0.1"),
        "5000": ("200", "0.1", "5000"),
    }
    sizes = {"200": 200, "0.1": round(len(train) / 10), "5000": 5000}
    for name, size in sizes.items():
        is_inside = np.isin(groups, plan.subsets["train"][name])
        assert abs(is_inside.sum() - size) <= 0.01 * size
        assert is_inside[: is_inside.sum()].all()  # the lowest positions, no others
    assert plan.groups["validation"] == ("all",)


def test_balanced_sets_are_the_lowest_draws_of_each_class() -> None:
    request = SubsetRequest.parse("", "100,20", 10)
    plan = lay(BATCHES, request)
    videos = in_split("evaluation").to_pylist()
    bearers: dict[int, list[tuple[int, str]]] = {label: [] for label in range(100)}
    for video in videos:
        for label, draw in zip(video["labels"], video["draws"], strict=True):
            bearers.get(label, []).append((draw, video["id"]))
    expected = {
        size: {name for label in range(size) for _, name in sorted(bearers[label])[:10]}
        for size in (20, 100)
    }

    positions = np.array([video["position"] for video in videos])
    places = plan.groups_of("evaluation", positions)
    groups = [plan.groups["evaluation"][place] for place in places]
    received = {
        size: {
            video["id"]
            for video, group in zip(videos, groups, strict=True)
            if group in plan.subsets["evaluation"][str(size)]
        }
        for size in (20, 100)
    }

    assert received == expected
    assert received[20] < received[100] < {video["id"] for video in videos}


def test_counts_are_the_same_for_any_number_of_bundles() -> None:
    request = SubsetRequest.parse("5000", "100", 10)
    one, other = (count_videos(BATCHES, request, bundles=bundles) for bundles in (1, 4))

    assert one.arrays.keys() == other.arrays.keys()
    for name, counts in one.arrays.items():
        np.testing.assert_array_equal(counts, other.arrays[name])
    np.testing.assert_array_equal(one.drawn, other.drawn)


def test_survey_counts_what_a_loop_counts() -> None:
    counts = count_videos(BATCHES, SubsetRequest(), bundles=2)
    videos = VIDEOS.to_pylist()

    label_videos = np.zeros((3, NUM_LABELS), int)
    together = np.zeros((50, 50), int)
    for video in videos:
        label_videos[video["split"], video["labels"]] += 1
        frequent = [label for label in video["labels"] if label < 50]
        together[np.ix_(frequent, frequent)] += 1
    np.testing.assert_array_equal(counts["label_videos"], label_videos)
    np.testing.assert_array_equal(counts["together"], together)
    lengths = [len(video["labels"]) for video in videos]
    np.testing.assert_array_equal(counts["labels_per_video"], np.bincount(lengths))
    known = sum(video["end"] is not None for video in videos)
    assert counts["known_videos"].sum() == known
    assert counts["known_milliseconds"].sum() == 10_000 * known
    assert counts["milliseconds"].sum() == 10_000 * known + 276_000 * (len(videos) - known)
    assert counts["lengths"][4] == known == counts["lengths"].sum()  # 10 s up to 20 s


def test_memory_of_a_label_does_not_grow_with_its_videos() -> None:
    combine = CountVideos(SubsetRequest.parse("", "1", 33))
    counts = combine.create_accumulator()
    ids = [str(index) for index in range(50_000)]
    columns = {
        "id": ids,
        "uri": ids,
        "start": pa.nulls(len(ids), pa.float64()),
        "end": pa.nulls(len(ids), pa.float64()),
        "labels": [[0]] * len(ids),
        "origins": [[]] * len(ids),
        "split": np.full(len(ids), 2, np.int8),
    }
    lowest: list[int] = []
    for seed in range(12):
        positions = np.random.default_rng(seed).random(len(ids))
        draws = draw_numbers(LABEL_HASHES[np.zeros(len(ids), int)], positions)
        added = {"position": positions, "draws": draws[:, None].tolist()}
        counts = combine.add_input(
            counts, pa.RecordBatch.from_pydict({**columns, **added}, INDEXED_SCHEMA)
        )
        lowest = sorted([*lowest, *draws.tolist()])[:33]
        assert len(counts.drawn) < 33 + 2**18
    assert combine.compact(counts).drawn["draw"].tolist() == lowest


def test_draws_are_uniform_and_independent_over_labels() -> None:
    """Of 20,000 videos: the draws of two labels correlate as little as random numbers do."""
    positions = np.random.default_rng(1).random(20_000)
    draws = [draw_numbers(np.full(20_000, own), positions) / 2**32 for own in LABEL_HASHES[:20]]

    for numbers in draws:
        assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-4
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 4.5 / 20_000**0.5
    # The lowest 33 of two labels are other videos, too.
    lowest = [set(np.argsort(numbers)[:33].tolist()) for numbers in draws]
    assert len(set().union(*lowest)) > 0.97 * 20 * 33


@pytest.mark.parametrize(
    ("training", "balanced", "message"),
    [
        ("99999", "", r"--subsets: 99999 is 99999 videos; the training split has 1"),
        ("", "500", r"--balanced-sets: received 500; the vocabulary has 200 labels"),
    ],
)
def test_subsets_larger_than_the_corpus_are_refused(
    training: str, balanced: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        lay(BATCHES, SubsetRequest.parse(training, balanced, 33))


@pytest.mark.parametrize(
    ("training", "balanced", "number"),
    [
        *((training, "", 33) for training in ("1,1", "23K", "0", "0.0", "1.5", ".5", "../x")),
        *(("", balanced, 33) for balanced in ("x", "0", "-3")),
        ("", "5", 0),
    ],
)
def test_subsets_that_are_none_are_refused(training: str, balanced: str, number: int) -> None:
    with pytest.raises(InputError, match=r"--(subsets|balanced-sets|examples-per-class): received"):
        SubsetRequest.parse(training, balanced, number)


def test_counts_by_position_are_small_when_they_cross_a_shuffle() -> None:
    counts = count_videos(BATCHES, SubsetRequest.parse("200", "10", 33), bundles=2)

    packed = pickle.dumps(counts)

    assert sum(array.nbytes for array in counts.arrays.values()) > 2**24
    assert len(packed) < 2**19
    again = pickle.loads(packed)
    assert again.arrays.keys() == counts.arrays.keys()
    for name, array in counts.arrays.items():
        np.testing.assert_array_equal(again[name], array)
    np.testing.assert_array_equal(again.drawn, counts.drawn)
