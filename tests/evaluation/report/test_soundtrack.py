"""What the page of a soundtrack is read from."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.report.soundtrack import choose_soundtrack, open_frame_scores, timeline
from features.contracts import folders
from features.contracts.documents import Scores
from features.errors import InputError
from features.front_end.params import LogMelParams
from tests.evaluation.metrics.scores import make_scores, write_folder


def test_patches_are_placed_where_they_start_and_gaps_are_nan() -> None:
    params = LogMelParams()
    patches = np.stack([np.full(params.patch_shape, value, np.float32) for value in (1, 2, 3)])

    log_mel = timeline(patches, np.array([0.96, 0.0, 2.88]), params)

    assert log_mel.shape == (384, 64)
    assert log_mel[::96, 0].tolist()[:2] == [2, 1]
    assert np.isnan(log_mel[192:288]).all()
    assert (log_mel[288:] == 3).all()


def test_no_patches_make_an_empty_spectrogram() -> None:
    params = LogMelParams()
    log_mel = timeline(np.zeros((0, *params.patch_shape)), np.zeros(0), params)
    assert log_mel.shape == (0, 64)


def test_scores_without_frame_scores_cannot_be_shown(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, *make_scores(20, 3))
    with pytest.raises(InputError, match="no frame scores; score with --frame-scores first"):
        open_frame_scores(folder)


def test_the_video_with_most_labels_is_shown(tmp_path: Path) -> None:
    scores, truth = make_scores(20, 3)
    truth[:] = truth & (np.arange(20) != 7)[:, None]
    truth[7] = True
    truth[truth.all(axis=1) & (np.arange(20) != 7)] = False
    folder = write_folder(tmp_path, scores, truth)

    assert choose_soundtrack(folder, folders.read_document(folder, Scores)) == "video 007"
