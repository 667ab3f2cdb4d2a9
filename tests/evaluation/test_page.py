import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from evaluation.report.page import SoundtrackView, render_report

NAMES = ["Speech", "</script><b>Drum", "\"quoted\" & 'single'", "موسيقى", "歌", "{{ 7 * 7 }}"]
AUC = [0.9, 1.0, 0.75, None, 0.5, 0.25]
D_PRIME = [1.8124, math.inf, 0.9539, None, 0.0, -0.9539]
AP = [0.5, 1.0, 0.0004, None, math.nan, 0.125]


def make_metrics(**replaced):
    return {
        "format_version": 1,
        "num_videos": 11966,
        "num_videos_expected": 12000,
        "num_missing": 34,
        "num_labels": len(NAMES),
        "num_classes_evaluated": 5,
        "undefined_classes": [{"label": 3, "name": NAMES[3], "reason": "no <positive> video"}],
        "mean_auc": 0.9043,
        "d_prime": 1.8462,
        "mean_ap": 0.1371,
        "prior_mean_ap": 0.00033,
        "accuracy_1best": 0.6125,
        "set": "evaluation",
        "made_by": {
            "command": ["evaluate", "--note", "a b"],
            "created": "2025-03-04T10:21:07Z",
            "versions": {"numpy": "2.4.6"},
        },
        "recipe": {"name": "resnet_50", "optimizer": {"learning_rate": 3e-5}},
        "fingerprints": {"run": "0123abcd"},
    } | replaced


def make_per_class():
    count = len(NAMES)
    return pa.table(
        {
            "label": pa.array(range(count), pa.int32()),
            "label_id": [f"/m/{label}" for label in range(count)],
            "name": NAMES,
            "prior": [0.5, 0.1, 0.01, 1e-6, 0.0, 0.25],
            "positives": pa.array([6000, 33, 1, 0, 5, 7], pa.int64()),
            "negatives": pa.array([5966, 11933, 11965, 0, 11961, 11959], pa.int64()),
            "auc": pa.array(AUC, pa.float64()),
            "d_prime": pa.array(D_PRIME, pa.float64()),
            "ap": pa.array(AP, pa.float64()),
        }
    )


def make_soundtrack(*, frames=250, patches=2, labels=6, true_labels=(1, 4)):
    rng = np.random.default_rng(7)
    return SoundtrackView(
        video_id="</p><i>id",
        uri="https://example.com/watch?v=1&t=2",
        log_mel=rng.normal(size=(frames, 64)).astype(np.float32),
        seconds_per_frame=0.01,
        label_names=[NAMES[label % len(NAMES)] for label in range(labels)],
        labels=true_labels,
        frame_scores=rng.random((patches, labels), np.float32),
        patch_start_seconds=0.96 * np.arange(patches),
        patch_seconds=0.96,
    )


class Page(HTMLParser):
    """The elements of a page; fails where an element is closed that is not open."""

    VOID = ("meta", "img", "input", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.open = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self):
        """The embedded JSON."""
        return json.loads(next(text for tag, text in self.texts if tag == "script"))


def test_shows_the_figures_of_the_set():
    text = render_report(make_metrics(), make_per_class(), make_soundtrack())
    for figure in ("0.904", "1.846", "0.137", "0.00033", "0.613", "11,966", "12,000", "34 missing"):
        assert figure in text
    for origin in ("optimizer.learning_rate", "3e-05", "2.4.6", "0123abcd"):
        assert origin in text
    assert html.escape("evaluate --note 'a b'", quote=True).replace("&#x27;", "&#39;") in text
    assert "no &lt;positive&gt; video" in text


@pytest.mark.parametrize("soundtrack", [None, make_soundtrack()], ids=["none", "soundtrack"])
def test_is_well_formed_and_refers_to_nothing_outside(soundtrack):
    text = render_report(make_metrics(), make_per_class(), soundtrack)
    page = Page(text)
    assert not page.all("link")
    assert all("Drum" not in value for tag, value in page.texts if tag == "b")
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("href", "srcset", "action", "xlink:href")
            assert name != "src" or value.startswith("data:image/png;base64,")
    outside = [value for tag, value in page.texts if re.search(r"https?://|url\(|@import", value)]
    assert outside == ([] if soundtrack is None else [soundtrack.uri])  # as text, not as a link


def test_embeds_every_class_with_hostile_names_and_undefined_values():
    data = Page(render_report(make_metrics(), make_per_class(), None)).data()
    columns = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert [row["name"] for row in columns] == NAMES
    assert [row["auc"] for row in columns] == AUC
    assert [row["d_prime"] for row in columns] == [1.8124, "Infinity", 0.9539, None, 0, -0.9539]
    assert [row["ap"] for row in columns] == [0.5, 1, 0.0004, None, None, 0.125]
    assert data["soundtrack"] is None


def test_headline_figures_may_be_undefined_or_infinite():
    metrics = make_metrics(mean_ap=None, mean_auc=1.0, d_prime=math.inf, undefined_classes=[])
    text = render_report(metrics, make_per_class().slice(0, 0), None)
    assert '<span class="value" id="mean-ap">–</span>' in text
    assert '<span class="value">∞</span>' in text
    assert Page(text).data()["rows"] == []


def test_soundtrack_shows_the_sixteen_highest_peaks_and_the_true_labels():
    view = make_soundtrack(patches=3, labels=40, true_labels=range(40))
    page = Page(render_report(make_metrics(), make_per_class(), view))
    shown = page.data()["soundtrack"]
    peaks = np.sort(view.frame_scores.max(axis=0))[::-1]
    np.testing.assert_allclose([row["peak"] for row in shown["rows"]], peaks[:16], rtol=1e-6)
    np.testing.assert_allclose([max(row["scores"]) for row in shown["rows"]], peaks[:16], atol=1e-4)
    assert all(row["true"] for row in shown["rows"])
    # Three patches outlast 250 frames: the spectrogram ends before the scores do.
    assert shown["duration"] == pytest.approx(2.88)
    assert page.all("img")[0]["style"] == f"width:{100 * 2.5 / 2.88:.4f}%"


def test_a_long_soundtrack_is_grouped_and_keeps_its_peaks():
    view = make_soundtrack(frames=9000, patches=1500)
    text = render_report(make_metrics(), make_per_class(), view)
    assert "highest score of several patches" in text
    data = Page(text).data()["soundtrack"]
    assert len(data["cells"]) == 500
    assert data["cells"][0] == [0, pytest.approx(2.88)]
    assert data["cells"][-1][1] == pytest.approx(1440.0)
    assert data["rows"][0]["peak"] == pytest.approx(view.frame_scores.max())


@pytest.mark.parametrize(("frames", "patches"), [(0, 0), (40, 0), (0, 1)])
def test_soundtrack_without_frames_or_patches(frames, patches):
    view = make_soundtrack(frames=frames, patches=patches)
    Page(render_report(make_metrics(), make_per_class(), view))


def test_constant_sound_and_scores_of_zero():
    view = make_soundtrack()
    view.log_mel[:] = -4.6
    view.frame_scores[:] = 0
    page = Page(render_report(make_metrics(), make_per_class(), view))
    assert page.all("svg")
    assert not page.all("rect")


def test_refuses_scores_of_another_vocabulary_and_non_finite_ones():
    view = make_soundtrack()
    arguments = vars(view)
    with pytest.raises(ValueError, match="shape"):
        SoundtrackView(**arguments | {"label_names": NAMES[:2]})
    with pytest.raises(ValueError, match="NaN"):
        SoundtrackView(**arguments | {"frame_scores": view.frame_scores * np.nan})


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
def test_in_a_browser(tmp_path: Path):
    text = render_report(make_metrics(), make_per_class(), make_soundtrack())
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync "
        "--virtual-time-budget=3000 --dump-dom"
    )
    shown = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=120,
    ).stdout
    body = re.search(r'<table id="per-class">.*?<tbody>(.*?)</tbody>', shown, re.DOTALL).group(1)
    names = [html.unescape(name) for name in re.findall(r"<bdi>(.*?)</bdi>", body)]
    # By falling AP; undefined values last, in the order of the vocabulary.
    assert names == [NAMES[label] for label in (1, 0, 5, 2, 3, 4)]
    assert "∞" in body
    assert "0.00040" in body
    assert "−0.954" in body
