"""The nearest videos of a corpus, against the distances of all pairs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation import neighbours
from evaluation.neighbours import Corpus, Neighbour
from evaluation.search import describe
from features.contracts.documents import Features
from features.errors import InputError
from tests.conftest import closed_folder

UNITS = 8


def corpus_of(values: np.ndarray, video: np.ndarray) -> Corpus:
    index = neighbours.create_index(UNITS, neighbours.settings())
    half = len(values) // 2
    for chunk in (values[:half], values[half:]):
        neighbours.add_vectors(index, chunk.astype(np.float16))
    names = [f"video {number}" for number in range(video.max() + 1)]
    starts = np.arange(len(values), dtype=np.float32)
    return Corpus(index, names, video.astype(np.int32), starts)


def distances(values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """1 - cosine of all pairs, [vectors, query vectors]."""
    values = values.astype(np.float16).astype(np.float64)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    return 1 - values @ query.T


@pytest.mark.parametrize("count", [1, 5, 40, 100])
def test_a_video_that_fills_the_first_search_hides_no_other(count: int) -> None:
    """One of 30 videos has most of the vectors, all nearer to one query vector than the others."""
    rng = np.random.default_rng(5)
    query = rng.normal(size=(3, UNITS))
    crowd = query[:1] + 0.02 * rng.normal(size=(300, UNITS))
    values = np.concatenate([crowd, rng.normal(size=(290, UNITS))])
    video = np.concatenate([np.zeros(300, int), 1 + np.arange(290) % 29])
    pairs = distances(values, query)
    by_video = np.array([pairs[video == number].min() for number in range(30)])

    found = neighbours.find_neighbours(
        corpus_of(values, video), values=query, start_seconds=np.array([0, 1, 2]), count=count
    )

    nearest = np.argsort(by_video)[:count]
    assert [each.video_id for each in found] == [f"video {number}" for number in nearest]
    np.testing.assert_allclose([each.distance for each in found], by_video[nearest], atol=2e-3)
    for each in found:
        pair = pairs[int(each.start_seconds), int(each.query_seconds)]
        assert each.distance == pytest.approx(pair, abs=2e-3)


def test_a_search_does_not_grow_to_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for more videos than there are, nor for one that is far from the query."""
    sizes, search = [], neighbours._search

    def spy(index: object, values: np.ndarray, count: int) -> tuple:
        sizes.append(count)
        return search(index, values, count)

    monkeypatch.setattr(neighbours, "_search", spy)
    rng = np.random.default_rng(5)
    query = rng.normal(size=(2, UNITS))
    values, video = rng.normal(size=(3000, UNITS)), np.arange(3000) % 3
    found = neighbours.find_neighbours(corpus_of(values, video), query, np.zeros(2), 1000)
    assert len(found) == 3
    assert max(sizes) <= 48

    monkeypatch.setattr(neighbours, "_MAX_PAIRS", 400)
    values[:-1] = query[0] + 0.02 * rng.normal(size=(2999, UNITS))
    values[-1], video[:-1], video[-1] = -query[0], 0, 1
    (near,) = neighbours.find_neighbours(corpus_of(values, video), query[:1], np.zeros(1), 2)
    assert near.video_id == "video 0"
    assert max(sizes) == 400


def test_large_and_silent_vectors() -> None:
    values = np.zeros((3, UNITS))
    values[1, 0] = 6e4
    values[2, 1] = 1e-3
    found = neighbours.find_neighbours(
        corpus_of(values, np.arange(3)),
        values=np.eye(UNITS)[:1] * 1e6,
        start_seconds=np.zeros(1),
        count=3,
    )
    assert found[0] == Neighbour("video 1", 1.0, 0.0, pytest.approx(0.0, abs=1e-3))
    assert [each.distance for each in found[1:]] == pytest.approx([1.0, 1.0])


def test_lines_fit_a_terminal() -> None:
    header, line = describe([Neighbour("clip.ogg", 3725.04, 0.48, 0.12345)])
    assert header == "distance        at  query at  video"
    assert line == "   0.123   62:05.0    0:00.5  clip.ogg"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(InputError, match="pip install usearch"):
        neighbours.settings()


def test_a_folder_without_an_index_that_cannot_be_written() -> None:
    name = "features_of_embeddings.json"
    stored = (Path(__file__).parents[1] / "features/contracts/documents" / name).read_bytes()
    features = Features.from_json(stored, name)
    with (
        closed_folder() as folder,
        pytest.raises(InputError, match=r"has no index .*Permission denied.*`ls -ld"),
    ):
        neighbours.open_corpus(folder, features)
