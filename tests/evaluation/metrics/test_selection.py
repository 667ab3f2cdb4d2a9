"""Selections of a SCORES folder on disk against the arrays that it was written from."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics import selection as selection_module
from evaluation.metrics.selection import groups_of, open_scores, read_block, read_ids, video_hashes
from features.errors import ContractError, InputError
from tests.evaluation.metrics.scores import make_scores, write_folder

NUM_VIDEOS, NUM_CLASSES = 40, 6
SCORES, TRUTH = make_scores(NUM_VIDEOS + 3, NUM_CLASSES)
ORDER = sorted(range(NUM_CLASSES), key=lambda label: (TRUTH[:, label].sum(), label), reverse=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scores of all but three videos, in more than one shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.scoring.external._SHARD_BYTES", 4 * NUM_CLASSES * 10)
        return write_folder(tmp_path_factory.mktemp("selection"), SCORES[:NUM_VIDEOS], TRUTH)


def read_all(selection, share: float = 1.0) -> dict[str, tuple[list[float], list[int]]]:
    """Id -> scores and labels."""
    found = {}
    for keys in selection.blocks(share):
        videos = read_block(selection, keys, share)
        for row, video_id in enumerate(videos.ids):
            labels = videos.block.label[videos.block.video == row]
            found[video_id] = (videos.block.scores[row].tolist(), sorted(labels.tolist()))
    return found


def expected(labels: list[int]) -> dict[str, tuple[list[float], list[int]]]:
    return {
        f"video {row:03d}": (
            SCORES[row, labels].tolist(),
            np.flatnonzero(TRUTH[row, labels]).tolist(),
        )
        for row in range(NUM_VIDEOS)
    }


def test_all_videos_and_labels(folder: str) -> None:
    selected = open_scores(folder, flag="--scores")

    assert len(selected.selection.blocks()[0]) > 1
    assert read_all(selected.selection) == expected(ORDER)
    assert sorted(read_ids(selected.selection)) == sorted(expected(ORDER))
    assert selected.num_videos_expected == NUM_VIDEOS + 3
    assert selected.vocabulary.ids == tuple(f"label {label}" for label in ORDER)


def test_the_most_frequent_labels(folder: str) -> None:
    selected = open_scores(folder, flag="--scores", num_labels=2)

    assert read_all(selected.selection) == expected(ORDER[:2])
    assert len(selected.vocabulary) == 2


def test_videos_without_scores_are_listed(folder: str) -> None:
    selection = open_scores(folder, flag="--scores").selection

    missing = [
        video for keys in selection.blocks() for video in read_block(selection, keys).missing
    ]
    assert sorted(missing) == [(f"video {row:03d}", "no_score") for row in (40, 41, 42)]


def test_videos_selected_by_hash_and_labels_in_any_order(folder: str) -> None:
    selection = open_scores(folder, flag="--scores").selection
    wanted = [f"video {row:03d}" for row in (3, 5, 30)]
    labels = (4, 0)
    selection = dataclasses.replace(
        selection, labels=labels, video_hashes=np.sort(video_hashes([*wanted, "absent"]))
    )

    everything = expected([ORDER[label] for label in labels])
    assert read_all(selection) == {video_id: everything[video_id] for video_id in wanted}


def test_labels_stay_with_their_videos_if_a_shard_has_no_selected_video(folder: str) -> None:
    selection = open_scores(folder, flag="--scores").selection
    (keys,) = selection.blocks()
    in_first = set(read_block(selection, keys[:1]).ids)
    wanted = sorted(set(expected(ORDER)) - in_first)
    assert in_first
    assert wanted

    selection = dataclasses.replace(selection, video_hashes=np.sort(video_hashes(wanted)))

    everything = expected(ORDER)
    assert read_all(selection) == {video_id: everything[video_id] for video_id in wanted}


def test_a_share_is_the_same_videos_whatever_the_number_of_shards(
    folder: str, tmp_path: Path
) -> None:
    in_many = read_all(open_scores(folder, flag="--scores").selection, 0.4)
    whole = write_folder(tmp_path, SCORES[:NUM_VIDEOS], TRUTH)
    in_one = read_all(open_scores(whole, flag="--scores").selection, 0.4)

    assert in_many == in_one
    assert 0 < len(in_many) < NUM_VIDEOS


def test_blocks_have_all_shards_once_and_are_bounded(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = open_scores(folder, flag="--scores").selection
    (whole,) = selection.blocks()
    monkeypatch.setattr(selection_module, "_BLOCK_BYTES", 4 * NUM_CLASSES * 20)

    blocks = selection.blocks()

    assert [key for block in blocks for key in block] == whole
    assert len(blocks) > 1


@pytest.mark.parametrize("num_labels", [0, NUM_CLASSES + 1])
def test_labels_that_the_folder_does_not_have_are_refused(folder: str, num_labels: int) -> None:
    with pytest.raises(InputError, match=f"--labels: received {num_labels}; A .* scores of 6"):
        open_scores(folder, flag="A", num_labels=num_labels)


def test_groups_of_a_subset() -> None:
    subsets, groups = {"1": ["1"], "2": ["1", "2", "empty"]}, {"1": 1, "2": 1, "rest": 3}

    assert groups_of(None, subsets, groups, where="x") == ["1", "2", "rest"]
    assert groups_of("2", subsets, groups, where="x") == ["1", "2"]
    with pytest.raises(InputError, match="--subset: received '3'; the subsets of x are: 1, 2"):
        groups_of("3", subsets, groups, where="x")
    with pytest.raises(InputError, match="are: none: pipelines"):
        groups_of("3", {}, groups, where="x")


def test_a_sidecar_without_a_field_is_named(folder: str, tmp_path: Path) -> None:
    selection = open_scores(write_folder(tmp_path, SCORES, TRUTH), flag="--scores").selection
    (path,) = Path(selection.folder).glob("*/*/scores-*.json")
    content = json.loads(path.read_text())
    del content["num_videos"]
    path.write_text(json.dumps(content))

    with pytest.raises(ContractError, match=r"scores-.*\.json: field num_videos is missing"):
        read_all(selection)
