"""Jobs with a network that was not trained here, from media to embeddings and scores."""

import dataclasses
import hashlib
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import soundfile
import soxr
import tensorflow as tf

from evaluation import embed, evaluate, localise, score_videos, search, soundtrack, tag
from evaluation.report import write
from evaluation.report.soundtrack import Medium, NoSpectrogramError, read_soundtrack
from features.contracts import leases, shards
from features.contracts.documents import (
    Dataset,
    Features,
    Metrics,
    PatchesPlan,
    Scores,
    ScoresPlan,
)
from features.contracts.folders import read_document, write_document
from features.contracts.labels import read_vocabulary
from features.contracts.sharding import ShardKey
from features.contracts.videos import Video
from features.errors import FAILED, OK, InputError
from pipelines import audit_features, extract_embeddings, prepare_dataset
from pipelines.extraction.patches import Mode, Settings, ShardPlan, extract_shard
from pipelines.runtime import inference, launch
from pipelines.runtime.network import choose_network
from tests import networks
from tests.conftest import Corpus, known_labels
from training import train

RATE = networks.WINDOWS.sample_rate_hz
HOP = networks.WINDOWS.hop_seconds


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, network, embeddings."""
    root = tmp_path_factory.mktemp("any-network")
    prepare_dataset.main([*corpus.flags, "--output", f"{root}/dataset", "--subsets", "2,0.5"])
    networks.save(root / "network")
    extract(root, root / "embeddings")
    return root


def extract(root: Path, output: Path, *flags: str) -> Features:
    source = ["--from-media", f"{root}/dataset", "--network", f"{root}/network"]
    assert extract_embeddings.main([*source, "--output", str(output), *flags]) == OK
    return read_document(str(output), Features)


def read(folder: Path, units: int = 16) -> dict[str, dict[float, np.ndarray]]:
    """Id -> start in seconds -> embedding."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for path in sorted(folder.glob("*/*/*.tfrecord")):
        for record in shards.read_records(str(path.with_suffix(""))):
            values = np.frombuffer(record.patch, np.float16)
            assert values.shape == (units,)
            found.setdefault(record.video_id, {})[record.start_seconds] = values
    return found


def digests(folder: Path, pattern: str = "patches-*") -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
    }


def times(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def waveform_of(path: Path) -> np.ndarray:
    """By libsndfile instead of FFmpeg, resampled in one piece instead of blocks."""
    samples, rate = soundfile.read(path, always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, RATE, "HQ").astype(np.float32)


def test_embeddings_are_those_of_the_whole_waveform(folders: Path, corpus: Corpus) -> None:
    document = read_document(f"{folders}/embeddings", Features)
    found = read(folders / "embeddings")
    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]

    assert (document.num_written, document.rejects) == (14, {"corrupt": 1, "not_found": 1})
    assert document.network == f"{folders}/network"
    # Lossless media alone: decoders of the others differ in their padding.
    videos = [name for name in found if name.endswith((".wav", ".flac"))]
    assert len(videos) >= 4
    for name in videos:
        waveform = waveform_of(corpus.manifest.parent / name)
        expected = direct(waveform=tf.constant(waveform))["embedding"].numpy()
        assert sorted(found[name]) == [np.float32(i * HOP) for i in range(len(expected))]
        values = np.stack([found[name][start] for start in sorted(found[name])])
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)


def test_a_second_run_keeps_every_shard_and_workers_give_the_same_bytes(
    folders: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("embeddings/*/*/patches*")}
    work = extract(folders, folders / "embeddings").work

    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert work == read_document(f"{folders}/embeddings", Features).work
    removed = next(path for path in before if path.suffix == ".json")
    expected = digests(folders / "embeddings")
    removed.unlink()
    extract(folders, folders / "embeddings")
    assert digests(folders / "embeddings") == expected
    extract(folders, tmp_path / "two", "--workers=2")
    assert digests(tmp_path / "two") == expected


def test_drawn_windows_have_the_embeddings_of_all(folders: Path, tmp_path: Path) -> None:
    few = ["--patches-per-video=3", "--sampled-splits=train,validation,evaluation"]
    document = extract(folders, tmp_path / "few", *few)
    every, drawn = read(folders / "embeddings"), read(tmp_path / "few")

    assert document.num_patches == 3 * 14
    for name, patches in drawn.items():
        assert len(patches) == 3
        for start, values in patches.items():
            np.testing.assert_allclose(values, every[name][start], rtol=2e-3, atol=1e-3)


def test_splits_and_subsets_are_extracted_alone(folders: Path, tmp_path: Path) -> None:
    chosen = ["--splits=train,validation", "--subset", "train=2"]
    some = extract(folders, tmp_path / "some", *chosen)

    assert some.only_subset == ("train=2",)
    assert {name: set(split.num_shards) for name, split in some.splits.items()} == {
        "train": {"2"},
        "validation": {"all"},
    }
    every = digests(folders / "embeddings")
    assert 0 < len(digests(tmp_path / "some")) < len(every)
    assert digests(tmp_path / "some").items() <= every.items()
    (tmp_path / "some/train/2/patches-00000-of-00001.tfrecord").unlink()
    assert audit_features.main(["--features", f"{tmp_path}/some", "--repair"]) == OK
    assert digests(tmp_path / "some").items() <= every.items()
    extract(folders, tmp_path / "some")
    assert digests(tmp_path / "some") == every
    with pytest.raises(InputError, match=r"--splits: .* also has evaluation, which would be lost"):
        extract(folders, tmp_path / "some", "--splits=train,validation")


def test_the_start_of_a_truncated_soundtrack_is_embedded_if_asked_for(
    folders: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "whole.wav", noise, RATE, subtype="FLOAT")
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    _, place = choose_network(f"{folders}/network", None)
    videos = tuple(
        Video(name, f"{tmp_path}/{name}.wav", None, None, ()) for name in ("cut", "whole")
    )
    kept = {}
    for keep_partial in (False, True):
        front_end = read_document(f"{folders}/embeddings", Features).front_end
        settings = Settings(front_end, 0, keep_partial, network=place)
        plan = ShardPlan(ShardKey("evaluation", "all", 0, 1), videos, settings)
        sidecar = extract_shard(plan, f"{tmp_path}/{keep_partial}", Mode()).sidecar
        kept[keep_partial] = [(str(video.outcome), video.num_patches) for video in sidecar.videos]
    found = read(tmp_path / "True")

    (_, (_, num_whole)), ((_, num_cut), _) = kept.values()
    assert kept[False] == [("truncated", 0), ("ok", num_whole)]
    assert kept[True] == [("ok_partial", num_cut), ("ok", num_whole)]
    assert 0 < num_cut < num_whole
    # The last window of the part is filled up.
    for start in sorted(found["cut"])[:-1]:
        np.testing.assert_array_equal(found["cut"][start], found["whole"][start])


def test_a_network_that_gives_nan_for_a_video_costs_no_other(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform = dataclasses.replace(networks.WINDOWS, frames_itself=False)
    networks.save(tmp_path / "network", waveform)
    module = networks.Spectral(waveform)
    plain, spec = module.windows, tf.TensorSpec([None, waveform.window_samples], tf.float32)
    module.windows = tf.function(
        lambda windows: plain(tf.where(windows > 0.9, np.nan, windows)), input_signature=[spec]
    )
    tf.saved_model.save(module, f"{tmp_path}/network", signatures={"windows": module.windows})
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 2 * RATE)).astype(np.float32)
    noise[1, RATE] = 0.95
    lines = ["id,uri,labels,split"]
    for name, samples in zip("abc", noise, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        lines.append(f"{name},{name}.wav,Low,evaluation")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    manifest = ["--manifest", f"{tmp_path}/manifest.csv", known_labels(tmp_path / "manifest.csv")]
    assert prepare_dataset.main([*manifest, "--output", f"{tmp_path}/dataset"]) == OK

    document = extract(tmp_path, tmp_path / "embeddings")
    media = ["--from-media", f"{tmp_path}/dataset", "--network", f"{tmp_path}/network"]
    flags = [*media, "--output", f"{tmp_path}/scores", "--frame-scores", "--embeddings"]
    assert score_videos.main(flags) == OK

    assert (document.num_written, document.rejects) == (2, {"nonfinite_outputs": 1})
    assert read(tmp_path / "embeddings").keys() == {"a", "c"}
    scores = read_document(f"{tmp_path}/scores", Scores)
    assert (scores.num_videos, scores.missing) == (2, {"nonfinite_outputs": 1})
    for kind in ("scores", "frames", "embeddings"):
        (path,) = tmp_path.glob(f"scores/*/*/{kind}-*.parquet")
        assert set(pq.read_table(path)["video_id"].to_pylist()) == {"a", "c"}
    capsys.readouterr()
    files = [f"{tmp_path}/b.wav", f"{tmp_path}/c.wav"]
    assert tag.main([*files, "--network", f"{tmp_path}/network"]) == FAILED
    told = capsys.readouterr()
    assert "b.wav: nonfinite_outputs: the network gives NaN" in told.err
    assert files[1] in told.out


def test_the_audit_finds_nothing_and_names_the_command(folders: Path, tmp_path: Path) -> None:
    assert audit_features.main(["--features", f"{folders}/embeddings"]) == OK
    extract(folders, tmp_path / "damaged")
    damaged = next(
        path for path in (tmp_path / "damaged").rglob("*.tfrecord") if path.stat().st_size
    )
    damaged.write_bytes(damaged.read_bytes()[:-9])

    assert audit_features.main(["--features", f"{tmp_path}/damaged", "--repair"]) == OK

    assert digests(tmp_path / "damaged") == digests(folders / "embeddings")


@pytest.fixture(scope="module")
def scores(folders: Path) -> Path:
    assert score_videos.main(scoring(folders)) == OK
    return folders / "scores"


def scoring(folders: Path) -> list[str]:
    flags = ["--from-media", f"{folders}/dataset", "--network", f"{folders}/network"]
    return [*flags, "--output", f"{folders}/scores", "--frame-scores", "--embeddings"]


def test_scores_have_the_labels_of_the_network(folders: Path, scores: Path, tmp_path: Path) -> None:
    """The network knows two of the three labels of the videos, by name, and one of its own."""
    document = read_document(str(scores), Scores)
    tables = [pq.read_table(path) for path in sorted(scores.glob("*/*/scores-*.parquet"))]
    rows = {row["video_id"]: row for table in tables for row in table.to_pylist()}
    own = read_vocabulary(f"{folders}/dataset")
    vocabulary = read_vocabulary(str(scores))
    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]

    assert vocabulary.names == networks.LABELS
    assert vocabulary.counts.tolist() == [
        own.counts[own.ids.index(name)] if name in own.ids else 0 for name in networks.LABELS
    ]
    assert (document.num_videos, document.missing) == (5, {"not_found": 1})
    assert (document.run, document.network) == (None, f"{folders}/network")
    manifest = pyarrow.csv.read_csv(Path(read_document(f"{folders}/dataset", Dataset).manifest))
    wanted = {row["id"]: row["labels"].split(";") for row in manifest.to_pylist()}
    for name, row in rows.items():
        assert [networks.LABELS[label] for label in row["labels"]] == sorted(
            set(wanted[name]) & set(networks.LABELS)
        )
        if name.endswith((".wav", ".flac")):
            path = Path(read_document(f"{folders}/dataset", Dataset).manifest).parent / name
            expected = direct(waveform=tf.constant(waveform_of(path)))["scores"].numpy()
            np.testing.assert_allclose(row["scores"], expected.mean(axis=0), atol=1e-3)

    before = digests(scores, "scores-*")
    assert score_videos.main([*scoring(folders), "--workers=2"]) == OK
    assert digests(scores, "scores-*") == before
    report = ["--scores", str(scores), "--output", f"{tmp_path}/report", "--examples=1"]
    assert evaluate.main(report) == OK
    assert read_document(f"{tmp_path}/report", Metrics).num_classes_evaluated == 2
    assert "data:audio/webm;base64," in (tmp_path / "report/report.html").read_text()
    assert list(tmp_path.glob("report/soundtracks/*.html"))


def test_the_page_of_scores_of_media_shows_the_medium(
    folders: Path, scores: Path, corpus: Corpus, tmp_path: Path
) -> None:
    (clip, *_) = (path for path in sorted(corpus.manifest.parent.glob("clip-0[035]*.wav")))
    flags = ["--scores", str(scores), "--video", clip.name, "--output", f"{tmp_path}/page.html"]
    assert soundtrack.main(flags) == OK
    page = (tmp_path / "page.html").read_text()
    assert "data:audio/webm;base64," in page
    assert str(clip) in page

    medium = Medium(str(clip))
    view = read_soundtrack(str(scores), read_document(str(scores), Scores), clip.name, medium)
    assert len(view.log_mel) == 96 * int(soundfile.info(clip).duration / 0.96)
    assert np.isfinite(view.log_mel).all()
    np.testing.assert_allclose(view.start_seconds, HOP * np.arange(len(view.scores)))
    manifest = pyarrow.csv.read_csv(corpus.manifest).to_pylist()
    wanted = next(row["labels"].split(";") for row in manifest if row["id"] == clip.name)
    assert {networks.LABELS[label] for label in view.labels} == set(wanted) & set(networks.LABELS)
    with pytest.raises(NoSpectrogramError, match="the data set no longer has it"):
        read_soundtrack(str(scores), read_document(str(scores), Scores), clip.name, None)


def test_windows_that_overlap_are_localised(scores: Path, tmp_path: Path) -> None:
    """A window is active if half of it overlaps the event, which is longer."""
    rows, truth, values = [], [], []
    window = networks.WINDOWS.window_samples / RATE
    for table in map(pq.read_table, scores.glob("*/*/frames-*.parquet")):
        for row in table.to_pylist():
            start = row["start_seconds"]
            times = start + (np.arange(1000) + 0.5) / 1000 * window
            truth.append(np.mean((times >= 0.3) & (times < 1.1)) > 0.5)
            values.append(row["scores"])
        rows += [
            {"id": video_id, "label": label, "start": 0.3, "end": 1.1}
            for video_id in set(table["video_id"].to_pylist())
            for label in read_vocabulary(str(scores)).ids
        ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    flags = ["--scores", str(scores), "--events", f"{tmp_path}/events.parquet"]

    assert localise.main([*flags, "--output", f"{tmp_path}/out"]) == OK

    found = pq.read_table(tmp_path / "out" / "per_class.parquet")["ap"].to_pylist()
    assert 0 < np.mean(truth) < 1
    expected = [
        sklearn.metrics.average_precision_score(truth, np.array(values)[:, label])
        for label in range(len(networks.LABELS))
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_video_of_two_labels_of_the_same_label_counts_once(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "network", tmp_path, dirs_exist_ok=True)
    ids = ["Low", "x", "y"]  # two labels of the videos have an id and a name of the first label
    lines = [f"{label},{name}" for label, name in zip(ids, ["Middle", "X", "Y"], strict=True)]
    (tmp_path / "classes.csv").write_text("\n".join(["mid,display_name", *lines]))
    flags = ["--from-media", f"{folders}/dataset", "--network", str(tmp_path)]
    parsed = launch.parse(score_videos._parser(), [*flags, "--output", f"{tmp_path}/scores"])

    counts = score_videos._check(*parsed).vocabulary.counts.tolist()

    manifest = pyarrow.csv.read_csv(Path(read_document(f"{folders}/dataset", Dataset).manifest))
    labels = [set(row.split(";")) for row in manifest["labels"].to_pylist()]
    assert counts == [sum(bool(own & {"Low", "Middle"}) for own in labels), 0, 0]


def test_the_pages_of_a_probe_show_the_media(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings of media have no spectrogram: it is decoded again."""
    embeddings = ["--features", f"{folders}/embeddings"]
    probe = ["--set=num_layers=0", "--steps=3", "--batch-size=16", "--output", f"{tmp_path}/run"]
    assert train.main(["fully_connected", *embeddings, *probe]) == OK
    scoring = ["--run", f"{tmp_path}/run", "--frame-scores", "--output", f"{tmp_path}/scores"]
    assert score_videos.main([*embeddings, *scoring]) == OK
    scores = ["--scores", f"{tmp_path}/scores"]
    assert evaluate.main([*scores, "--output", f"{tmp_path}/report", "--examples=1"]) == OK
    assert "data:audio/webm;base64," in (tmp_path / "report/report.html").read_text()
    assert list(tmp_path.glob("report/soundtracks/*.html"))

    (clip, *_) = (path for path in sorted(corpus.manifest.parent.glob("clip-0[035]*.wav")))
    document = read_document(f"{tmp_path}/scores", Scores)
    pages = write.Pages(f"{tmp_path}/report", f"{tmp_path}/scores", document, None, 1)
    shown = pages.read_soundtrack(clip.name, {clip.name: Medium(str(clip))})
    assert shown is not None
    view, _ = shown
    seconds = soundfile.info(clip).duration
    assert len(view.log_mel) == 96 * int(seconds / 0.96)
    assert np.isfinite(view.log_mel).all()
    np.testing.assert_allclose(view.start_seconds, HOP * np.arange(len(view.scores)))
    capsys.readouterr()
    assert pages.read_soundtrack(clip.name, {}) is None
    assert "no longer has it, so there is no spectrogram; no page" in capsys.readouterr().err


def test_tagging_with_a_card(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    flags = ["--network", f"{folders}/network", "--top=1", "--every=0.5"]
    assert tag.main([str(clip), *flags, "--html", f"{tmp_path}/clip.html"]) == OK

    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]
    scores = direct(waveform=tf.constant(waveform_of(clip)))["scores"].numpy()
    _, whole, *lines = capsys.readouterr().out.splitlines()
    best = scores.mean(axis=0).argmax()
    assert whole.split() == [
        "whole",
        f"{scores.mean(axis=0)[best]:.2f}",
        *networks.LABELS[best].split(),
    ]
    assert len(lines) == 1 + (len(scores) + 1) // 2  # two windows in half a second; the page
    assert "Siren, wailing" in (tmp_path / "clip.html").read_text()


def test_a_table_of_embeddings_with_a_card(folders: Path, corpus: Corpus, tmp_path: Path) -> None:
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    network = ["--network", f"{folders}/network", "--output", f"{tmp_path}/table.parquet"]
    assert embed.main([str(clip), *network]) == OK

    table = pq.read_table(tmp_path / "table.parquet")
    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]
    expected = direct(waveform=tf.constant(waveform_of(clip)))["embedding"].numpy()
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, atol=1e-3)
    np.testing.assert_allclose(table["start_seconds"], HOP * np.arange(len(expected)), atol=1e-6)
    embedding = read_document(f"{folders}/embeddings", Features).front_end.embedding
    assert embedding is not None
    assert table.schema.metadata[embed.NETWORK].decode() == embedding.network
    networks.save(tmp_path)
    networks.rewrite_card(tmp_path, outputs=networks.NetworkOutputs(scores="scores"))
    with pytest.raises(InputError, match=r"no embedding, under outputs\.embedding"):
        embed.main([str(clip), "--network", str(tmp_path), "--output", f"{tmp_path}/x.parquet"])


def find(folders: Path, clip: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict]:
    capsys.readouterr()
    command = ["--embeddings", f"{folders}/embeddings", str(clip), "--json", *flags]
    assert search.main(command) == OK
    return json.loads(capsys.readouterr().out)["neighbours"]


def distances_of(found: list[dict]) -> dict[str, float]:
    return {each["video_id"]: each["distance"] for each in found}


def test_a_search_finds_what_all_pairs_have_nearest(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]
    query = direct(waveform=tf.constant(waveform_of(clip)))["embedding"].numpy()
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    pairs = {
        (name, start): 1 - query @ (values / np.linalg.norm(values.astype(np.float32)))
        for name, patches in read(folders / "embeddings").items()
        for start, values in patches.items()
    }
    expected: dict[str, float] = {}
    for (name, _), distances in pairs.items():
        expected[name] = min(expected.get(name, np.inf), distances.min())

    found = find(folders, clip, capsys, "--top=5", "--html", f"{tmp_path}/page.html")

    assert found[0]["video_id"] == clip.name
    nearest = [each["distance"] for each in found]
    np.testing.assert_allclose(nearest, sorted(expected.values())[:5], atol=2e-3)
    for each in found:
        assert each["distance"] == pytest.approx(expected[each["video_id"]], abs=2e-3)
        pair = pairs[each["video_id"], each["start_seconds"]]
        at = round(each["query_seconds"] / HOP)
        assert each["distance"] == pytest.approx(pair[at], abs=2e-3)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:audio/webm;base64,") == 6  # the query too
    assert len(find(folders, clip, capsys, "--top=99")) == 14
    assert search.main([str(clip), "--embeddings", f"{folders}/embeddings", "--top=1"]) == OK
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "0.000"
    assert line.split()[-1] == clip.name


def test_a_search_finds_the_card_of_the_embeddings(
    folders: Path,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The network has no card of its own; `--card` of the extraction was relative."""
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    shutil.copytree(folders / "network", tmp_path / "network")
    (tmp_path / "network/network.json").rename(tmp_path / "my.json")
    monkeypatch.chdir(tmp_path)
    flags = ["--from-media", f"{folders}/dataset", "--network=network", "--card=my.json"]
    flags += ["--splits=validation", "--output=embeddings"]
    assert extract_embeddings.main(flags) == OK
    monkeypatch.chdir("/")

    assert read_document(f"{tmp_path}/embeddings", Features).card == f"{tmp_path}/my.json"
    assert find(tmp_path, clip, capsys)


def test_the_index_is_kept_until_the_embeddings_change(
    folders: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    expected = distances_of(find(folders, clip, capsys))
    index, document = (
        folders / "embeddings" / "search" / name for name in ("index.usearch", "search.json")
    )
    built = index.stat().st_mtime_ns
    assert distances_of(find(folders, clip, capsys)) == expected
    assert index.stat().st_mtime_ns == built

    index.write_bytes(index.read_bytes()[:-9])  # as after a full disk
    assert distances_of(find(folders, clip, capsys)) == expected
    rebuilt = index.stat().st_mtime_ns
    content = json.loads(document.read_text())
    assert content["num_vectors"] == sum(map(len, read(folders / "embeddings").values()))
    document.write_text(json.dumps({**content, "features_fingerprint": "of others"}))
    assert distances_of(find(folders, clip, capsys)) == expected
    assert built != rebuilt != index.stat().st_mtime_ns
    assert audit_features.main(["--features", f"{folders}/embeddings"]) == OK


def test_a_search_waits_for_the_job_that_writes_the_folder(
    folders: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(path for path in sorted(corpus.manifest.parent.glob("*.wav")))
    embeddings, document = folders / "embeddings", folders / "embeddings/search/search.json"
    document.unlink(missing_ok=True)
    said = ""
    with ThreadPoolExecutor(1) as pool, leases.hold(str(embeddings), expiry_seconds=1.2):
        found = pool.submit(search.main, ["--embeddings", str(embeddings), str(clip)])
        deadline = time.monotonic() + 120
        while "waiting for `" not in said:
            assert time.monotonic() < deadline
            assert not found.done()
            said += capsys.readouterr().err
            time.sleep(0.05)
        assert not document.exists()
    assert found.result() == OK
    assert document.exists()
    assert leases.find_lease(str(embeddings)) is None


def test_a_search_refuses_another_network_and_a_file_without_sound(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--embeddings", f"{folders}/embeddings"]
    networks.save(tmp_path)
    networks.rewrite_card(
        tmp_path, waveform=networks.WaveformInput(**{**vars(networks.WINDOWS), "full_scale": 0.5})
    )
    clip = str(next(corpus.manifest.parent.glob("*.wav")))
    with pytest.raises(InputError, match="give the network that made the embeddings"):
        search.main([clip, *flags, "--network", str(tmp_path)])
    assert search.main([str(corpus.manifest.parent / "broken.mp4"), *flags]) == FAILED
    assert "broken.mp4: corrupt" in capsys.readouterr().err


def test_scoring_refuses_what_the_network_cannot(folders: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    networks.rewrite_card(
        tmp_path, outputs=networks.NetworkOutputs(embedding="embedding"), labels=None
    )
    media = ["--from-media", f"{folders}/dataset", "--output", f"{tmp_path}/scores"]
    with pytest.raises(InputError, match=r"under outputs\.scores"):
        score_videos.main([*media, "--network", str(tmp_path)])
    with pytest.raises(InputError, match="computes in float32"):
        score_videos.main([*media, "--network", f"{folders}/network", "--precision=int8"])


def test_a_folder_keeps_its_runtime(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFLite that was begun in LiteRT goes on there where OpenVINO has been installed since."""
    network = tmp_path / "network"
    windows = dataclasses.replace(networks.WINDOWS, window_samples=4096, frames_itself=False)
    networks.save(network, windows)  # the Fourier transform of LiteRT takes powers of two
    converter = tf.lite.TFLiteConverter.from_saved_model(str(network), signature_keys=["windows"])
    (network / "network.tflite").write_bytes(converter.convert())
    networks.rewrite_card(network, file="network.tflite")
    flags = ["--from-media", f"{folders}/dataset", "--network", str(network)]
    score = [*flags, "--output", f"{tmp_path}/scores"]
    extract = [*flags, "--output", f"{tmp_path}/embeddings", "--splits=evaluation"]
    with monkeypatch.context() as patch:
        patch.setattr(inference, "_is_installed", lambda name: name != "openvino")
        assert (score_videos.main(score), extract_embeddings.main(extract)) == (OK, OK)
    begun = read_document(f"{tmp_path}/scores", Scores).runtime
    assert begun is not None
    assert begun.name == "ai-edge-litert"
    assert choose_network(str(network), None)[1].runtime.name == "openvino"
    before = digests(tmp_path, "*-of-*"), times(tmp_path, "*-of-*")

    assert (score_videos.main(score), extract_embeddings.main(extract)) == (OK, OK)

    assert (digests(tmp_path, "*-of-*"), times(tmp_path, "*-of-*")) == before
    assert read_document(f"{tmp_path}/scores", Scores).runtime == begun
    assert read_document(f"{tmp_path}/embeddings", PatchesPlan).runtime == begun
    other = dataclasses.replace(begun, version="0.1")
    write_document(f"{tmp_path}/scores", ScoresPlan(runtime=other))
    with pytest.raises(InputError, match=r"has shards by ai-edge-litert 0\.1 .*, and this command"):
        score_videos.main(score)


def test_another_network_is_refused(folders: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    networks.rewrite_card(tmp_path, signature="windows")
    networks.rewrite_card(
        tmp_path,
        waveform=networks.WaveformInput(
            **{**vars(networks.WINDOWS), "frames_itself": False, "full_scale": 0.5}
        ),
    )
    flags = ["--from-media", f"{folders}/dataset", "--network", str(tmp_path)]
    with pytest.raises(InputError, match="front_end_fingerprint was"):
        extract_embeddings.main([*flags, "--output", f"{folders}/embeddings"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--features=features", "--network=network"], "with --run"),
        (["--from-media=dataset", "--run=run"], "with --network"),
        (["--features=features", "--run=run", "--splits=train"], "--splits: goes with --from-me"),
        (["--features=features", "--run=run", "--keep-partial"], "--keep-partial: goes with --f"),
    ],
)
def test_flags_that_do_not_belong_together(flags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract_embeddings.main([*flags, "--output=output"])


def test_an_output_of_another_job_is_refused(folders: Path, scores: Path) -> None:
    flags = ["--from-media", f"{folders}/dataset", "--network", f"{folders}/network"]
    with pytest.raises(InputError, match=r"holds the scores\.json of .*; name another folder"):
        extract_embeddings.main([*flags, "--output", str(scores)])
    with pytest.raises(InputError, match="is an input of this job"):
        extract_embeddings.main([*flags, "--output", f"{folders}/network"])


def test_a_network_without_embeddings_is_refused(folders: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    networks.rewrite_card(tmp_path, outputs=networks.NetworkOutputs(scores="scores"))
    flags = ["--from-media", f"{folders}/dataset", "--network", str(tmp_path)]
    with pytest.raises(InputError, match=r"under outputs\.embedding"):
        extract_embeddings.main([*flags, "--output", f"{tmp_path}/out"])
