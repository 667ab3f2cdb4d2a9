"""Figures 1 and 2 for print: what is drawn, and the files."""

import math

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from evaluation.paper import figure1, figure2
from evaluation.paper.drawing import draw
from evaluation.report.page import FIGURE_COLOURS
from features.errors import InputError
from tests.evaluation.report.test_page import make_per_class, make_view


def test_figure_1_has_a_point_for_each_class_that_has_a_d_prime():
    per_class = figure1.shown_classes(make_per_class(), 1.0)
    assert per_class["label"].to_pylist() == [0, 1, 2, 5]  # 3 is undefined, 4 has no prior
    figure = Figure()
    figure1.fill(figure, per_class)

    (axes,) = [axes for axes in figure.axes if axes.get_xscale() == "log"]
    finite, above, below = (scatter.get_offsets().data for scatter in axes.collections[:3])
    np.testing.assert_allclose(finite[:, 0], [0.5, 0.01, 0.25])
    np.testing.assert_allclose(finite[:, 1], [1.8124, 0.9539, -0.9539])
    top = axes.get_ylim()[1]
    assert above.tolist() == [[0.1, top]]  # infinite: at the edge
    assert axes.get_yticklabels()[-1].get_text() == "∞"
    assert len(below) == 0
    # AP of a class is its colour, on a scale that is the same for every figure; a class of one
    # positive and one of seven are hollow.
    colours = matplotlib.colormaps[FIGURE_COLOURS]([0.5, 0.0004, 0.125])
    filled, hollow = axes.collections[0].get_facecolors(), axes.collections[0].get_edgecolors()
    np.testing.assert_allclose(filled[0], colours[0])
    np.testing.assert_allclose(filled[1:, 3], 0)
    np.testing.assert_allclose(hollow[1:], colours[1:])


def test_figure_1_may_show_a_share_of_the_classes():
    rows = pa.table(
        {
            "label": np.arange(1000),
            "d_prime": np.arange(1000.0),
            "prior": np.full(1000, 0.1),
            "ap": np.full(1000, 0.1),
        }
    )
    drawn = figure1.shown_classes(rows, 0.2)["label"].to_numpy()
    assert len(drawn) == len(set(drawn)) == 200
    assert 400 < drawn.mean() < 600
    assert np.array_equal(drawn, figure1.shown_classes(rows, 0.2)["label"].to_numpy())


def test_figure_2_has_the_highest_labels_and_leaves_gaps_open():
    view = make_view(frames=700, patches=4, labels=40, true_labels=(3,))
    view.start_seconds[:] = [0, 0.96, 1.92, 5]
    figure = Figure()
    figure2.fill(figure, view, 0.5, 6.0)

    sound, labels = figure.axes[:2]
    peaks = view.scores.max(axis=0)
    (mesh,) = labels.collections
    values = mesh.get_array()
    assert values.shape[0] == 16
    np.testing.assert_allclose(np.nanmax(values, axis=1), np.sort(peaks)[::-1][:16], rtol=1e-6)
    drawn = np.ma.filled(values.astype(float), math.nan)
    assert np.isnan(drawn[:, 5]).all()  # from 2.88 to 5 s
    assert sound.get_xlim() == labels.get_xlim() == (0.5, 6.0)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")]
)
def test_files_are_of_their_kind_and_the_same_each_time(tmp_path, suffix, start):
    contents = []
    for _ in range(2):
        path = tmp_path / f"figure{suffix}"
        draw(str(path), (3, 2), lambda figure: figure.add_subplot().set_xlabel("d′"))
        contents.append(path.read_bytes())
    assert contents[0].startswith(start)
    assert contents[0] == contents[1]


def test_files_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"ends in \.pdf, \.svg or \.png"):
        figure1.main(["--report", "absent", "--output", "figure.gif"])
