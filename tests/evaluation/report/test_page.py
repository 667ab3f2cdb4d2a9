"""The pages as text: what they hold, that they hold together, and that they refer to nothing."""

import dataclasses
import html
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from evaluation.report.clip import SAMPLE_RATE_HZ, encode_clip
from evaluation.report.figure import (
    NUM_LABELS_SHOWN,
    SoundtrackView,
    frequency_ticks,
    soundtrack_figure,
)
from evaluation.report.page import ClassExamples, Example, render_report, render_soundtrack
from features.contracts.documents import Intervals, Metrics, UndefinedClass
from features.contracts.folders import MadeBy
from features.front_end.params import LogMelParams

NAMES = ["Speech", "</script><b>Drum", "\"quoted\" & 'single'", "موسيقى", "歌", "{{ 7 * 7 }}"]
AUC = [0.9, 1.0, 0.75, None, 0.5, 0.25]
AUC_LOW = [0.89, 0.93, 0.08, None, 0.27, 0.13]
AUC_HIGH = [0.91, 1.0, 0.99, None, 0.73, 0.44]
D_PRIME = [1.8124, math.inf, 0.9539, None, 0.0, -0.9539]
AP = [0.5, 1.0, 0.0004, None, math.nan, 0.125]
NO_INTERVALS = Intervals(
    mean_auc=None, d_prime=None, mean_ap=None, confidence=0.95, num_videos_left_out=0
)


def make_metrics(**replaced):
    metrics = Metrics(
        made_by=MadeBy(
            command="evaluate --note 'a b'",
            created="2025-03-04T10:21:07Z",
            versions={"numpy": "2.4.6"},
        ),
        scores="/scores",
        recipe={"name": "resnet_50", "optimizer": {"learning_rate": 3e-5}},
        set="evaluation",
        subset=None,
        num_videos_expected=12000,
        fingerprints={"run": "0123abcd"},
        num_videos=11966,
        num_missing=34,
        missing={},
        num_unlabelled=0,
        num_labelled=11966,
        accuracy_1best=0.6125,
        num_labels=len(NAMES),
        num_classes_evaluated=5,
        undefined_classes=(UndefinedClass(label=3, name=NAMES[3], reason="no <positive> video"),),
        mean_auc=0.9043,
        d_prime=1.8462,
        mean_ap=0.1371,
        intervals=NO_INTERVALS,
        mean_class_d_prime=None,
        num_classes_infinite_d_prime=0,
        prior_mean_ap=0.00033,
    )
    return dataclasses.replace(metrics, **replaced)


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
            "effective_origins": pa.array([500.0, 4.9, 1, None, 5, 7], pa.float64()),
            "auc": pa.array(AUC, pa.float64()),
            "auc_low": pa.array(AUC_LOW, pa.float64()),
            "auc_high": pa.array(AUC_HIGH, pa.float64()),
            "d_prime": pa.array(D_PRIME, pa.float64()),
            "ap": pa.array(AP, pa.float64()),
        }
    )


def make_examples():
    best = ClassExamples(
        make_per_class().slice(1, 1).to_pylist()[0],
        {
            "hit": Example("</a><i>hit", 0.93, "soundtracks/0123.html"),
            "false_alarm": Example("quiet", 0.001, None),
        },
    )
    return {"best": [best], "worst": []}


def make_confusion():
    answers = np.zeros((2, 2), np.int64)
    answers[0] = [30, 10]
    counts = {"answers": answers.tolist(), "another_right": [8, 0], "another_wrong": [2, 0]}
    return pa.table({"label": [0, 1], **counts})


def make_view(*, frames=250, patches=2, labels=6, true_labels=(1, 4)):
    rng = np.random.default_rng(7)
    return SoundtrackView(
        title="</p><i>id",
        uri="https://example.com/watch?v=1&t=2",
        params=LogMelParams(),
        log_mel=rng.normal(size=(frames, 64)).astype(np.float32),
        label_names=[NAMES[label % len(NAMES)] for label in range(labels)],
        labels=true_labels,
        scores=rng.random((patches, labels), np.float32),
        start_seconds=0.96 * np.arange(patches),
    )


def make_clip(seconds=2.5):
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    return encode_clip([tone], expected_seconds=seconds)


def report(metrics=None, per_class=None, soundtrack=None):
    return render_report(
        metrics or make_metrics(),
        make_per_class() if per_class is None else per_class,
        confusion=make_confusion(),
        soundtrack=soundtrack,
        are_certain=True,
        **make_examples(),
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
        """The JSON objects that are embedded, in order."""
        return [json.loads(text) for tag, text in self.texts if tag == "script" and text[0] == "{"]


def test_shows_the_metrics_of_the_set():
    text = report(soundtrack=(make_view(), None))
    for number in ("0.904", "1.846", "0.137", "0.00033", "0.613", "11,966", "12,000", "34 missing"):
        assert number in text
    for origin in ("optimizer.learning_rate", "3e-05", "2.4.6", "0123abcd", "2025-03-04 10:21 UTC"):
        assert origin in text
    assert html.escape("evaluate --note 'a b'", quote=True).replace("&#x27;", "&#39;") in text
    assert "no &lt;positive&gt; video" in text


@pytest.mark.parametrize("soundtrack", [None, (make_view(), make_clip())], ids=["none", "one"])
def test_is_well_formed_and_refers_to_nothing_but_its_examples(soundtrack):
    page = Page(report(soundtrack=soundtrack))
    assert all("Drum" not in value for tag, value in page.texts if tag == "b")
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("srcset", "action", "xlink:href")
            assert name != "src" or value.startswith(("data:image/webp;", "data:audio/webm;"))
            assert name != "href" or (tag, value) in (
                ("link", "data:,"),
                ("a", "soundtracks/0123.html"),
            )
    outside = [value for tag, value in page.texts if re.search(r"https?://|url\(|@import", value)]
    assert outside == ([] if soundtrack is None else [soundtrack[0].uri])  # as text, not as a link


def test_intervals_and_coverage():
    assert 'class="interval"' not in report()
    metrics = make_metrics(
        intervals=dataclasses.replace(NO_INTERVALS, mean_ap=(0.12, 0.15), mean_auc=(0.9, 0.91)),
        missing={"corrupt": 30, "too_short": 4},
        num_unlabelled=7,
        num_labelled=11959,
        subset="400",
    )
    texts = " ".join(" ".join(text for _, text in Page(report(metrics)).texts).split())
    assert "0.120 to 0.150" in texts
    assert "0.900 to 0.910" in texts
    assert "95 % confidence interval" in texts
    assert "30 corrupt , 4 too_short ." in texts
    assert "7 of the videos with scores" in texts
    assert "top label is correct, over 11,959 of 11,966 videos" in texts
    assert "subset 400" in texts


def test_examples_are_named_and_those_that_have_a_page_are_linked():
    page = Page(report())
    texts = [text.strip() for _, text in page.texts if text.strip()]
    assert page.all("a") == [{"href": "soundtracks/0123.html"}]
    at = texts.index("best hit")
    assert texts[at : at + 6] == ["best hit", "</a><i>hit", "0.93", "false alarm", "quiet", "<0.01"]


def test_confusion_is_shown_in_percent_of_the_videos_of_a_label():
    page = Page(report())
    cells = [
        (attributes["class"], attributes["style"])
        for attributes in page.all("td")
        if "style" in attributes
    ]
    assert cells[:4] == [
        ("right", "--share:0.600"),
        ("wrong", "--share:0.200"),
        ("right gap", "--share:0.160"),
        ("wrong", "--share:0.040"),
    ]
    assert all(style == "--share:0.000" for _, style in cells[4:])  # no video: no division by it


def test_embeds_every_class_with_hostile_names_and_undefined_values():
    (data,) = Page(report()).data()
    columns = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert [row["name"] for row in columns] == NAMES
    assert [row["auc"] for row in columns] == AUC
    assert [row["d_prime"] for row in columns] == [1.8124, "Infinity", 0.9539, None, 0, -0.9539]
    assert [row["ap"] for row in columns] == [0.5, 1, 0.0004, None, None, 0.125]


def test_d_prime_of_a_perfect_auc_is_infinite():
    metrics = make_metrics(mean_auc=1.0, d_prime=None, undefined_classes=())
    assert '<span class="value">∞</span>' in report(metrics, make_per_class().slice(0, 2))


def test_soundtrack_shows_the_sixteen_highest_peaks_and_the_true_labels():
    view = make_view(patches=3, labels=40, true_labels=range(40))
    page = Page(render_soundtrack(view, None))
    figure = soundtrack_figure(view)
    peaks = np.sort(view.scores.max(axis=0))[::-1]
    np.testing.assert_allclose([row.peak for row in figure.rows], peaks[:16], rtol=1e-6)
    assert len(figure.rows) == NUM_LABELS_SHOWN
    assert len(figure.other_true) == 24
    (shown,) = page.data()
    np.testing.assert_allclose([max(row) for row in shown["scores"]], peaks[:16], atol=1e-4)
    # Three patches outlast 250 frames: the spectrogram ends before the scores do.
    assert shown["duration"] == pytest.approx(2.88)
    assert page.all("img")[0]["style"] == f"width:{100 * 2.5 / 2.88:.4f}%"


def test_rows_are_drawn_to_the_scale_of_the_highest_peak():
    view = make_view(patches=2, labels=2, true_labels=(1,))
    view.scores[:] = [[0.5, 0.0], [0.25, 0.1]]
    page = Page(render_soundtrack(view, None))
    assert [path["d"] for path in page.all("path")] == [
        "M0 1V0.000H0.96V1M0.96 1V0.500H1.92V1",
        "M0.96 1V0.800H1.92V1",
    ]


def test_overlapping_patches_end_where_the_next_one_starts():
    view = make_view(patches=4)
    view.start_seconds[:] = [0, 0.48, 0.96, 5]
    assert soundtrack_figure(view).cells == [(0, 0.48), (0.48, 0.96), (0.96, 1.92), (5, 5.96)]


def test_a_long_soundtrack_is_grouped_and_keeps_its_peaks():
    view = make_view(frames=9000, patches=1500)
    figure = soundtrack_figure(view)
    assert "highest score of 3" in " ".join(render_soundtrack(view, None).split())
    assert len(figure.cells) == 500
    assert figure.cells[0] == (0, pytest.approx(2.88))
    assert figure.cells[-1][1] == pytest.approx(1440.0)
    assert figure.rows[0].peak == pytest.approx(view.scores.max())
    assert len(figure.spectrogram) == 2048
    np.testing.assert_allclose(figure.spectrogram.mean(), view.log_mel.mean(), atol=1e-3)


@pytest.mark.parametrize(("frames", "patches"), [(0, 0), (40, 0), (0, 1)])
def test_soundtrack_without_frames_or_patches(frames, patches):
    Page(render_soundtrack(make_view(frames=frames, patches=patches), None))


def test_constant_sound_and_scores_of_zero():
    view = make_view()
    view.log_mel[:] = -4.6
    view.scores[:] = 0
    page = Page(render_soundtrack(view, None))
    assert len(page.all("svg")) == len(view.label_names)
    assert all(path["d"] == "" for path in page.all("path"))


def test_frames_that_were_not_looked_at_are_transparent_and_damage_is_refused():
    view = make_view()
    view.log_mel[100:200] = np.nan
    assert Page(render_soundtrack(view, None)).all("img")
    view.log_mel[:] = np.nan
    assert Page(render_soundtrack(view, None)).all("img")
    arguments = vars(make_view())
    with pytest.raises(ValueError, match="shape"):
        SoundtrackView(**arguments | {"label_names": NAMES[:2]})
    with pytest.raises(ValueError, match="NaN"):
        SoundtrackView(**arguments | {"scores": view.scores * np.nan})
    with pytest.raises(ValueError, match="infinity"):
        SoundtrackView(**arguments | {"log_mel": np.full((9, 64), np.inf, np.float32)})


def test_frequencies_stand_where_their_bands_are():
    heights = {hertz: height for height, hertz in frequency_ticks(LogMelParams())}
    assert heights[125] == 0
    assert 8000 not in heights  # above the highest band
    # HTK's mel scale has 1000 Hz at 1000 mel: 185 and 2774 mel are the ends.
    assert heights[1000] == pytest.approx((1000 - 185.2) / (2774.5 - 185.2), abs=1e-3)
