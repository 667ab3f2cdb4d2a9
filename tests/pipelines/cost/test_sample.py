"""The sample of a corpus of real files, measured without the command."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contracts.videos import VIDEO_SCHEMA, Video
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.sound.waveform import RESAMPLER
from pipelines.corpus.encoding import write_media
from pipelines.cost import sample
from pipelines.cost.prediction import PlannedJob, predict, scale_to_paper
from pipelines.cost.sample import Corpus
from pipelines.extraction.patches import Mode, Settings

SETTINGS = Settings(FrontEnd(resampler=RESAMPLER), seed=0, keep_partial=False)
SECONDS = {"wav": (4.0, 8.0, 12.0), "flac": (6.0, 9.0)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Files of known lengths, and a text that no decoder accepts."""
    folder = tmp_path_factory.mktemp("sample")
    rng = np.random.default_rng(3)
    videos: dict[str, list[Video]] = {}
    for kind, lengths in SECONDS.items():
        for seconds in lengths:
            path = folder / f"{seconds}.{kind}"
            samples = 0.1 * rng.standard_normal((int(16_000 * seconds), 1)).astype(np.float32)
            codec = {"wav": "pcm_s16le", "flac": "flac"}[kind]
            write_media(path, samples, sample_rate=16_000, codec=codec)
            videos.setdefault(kind, []).append(Video(path.name, str(path), None, None, (0,)))
    (folder / "text.wav").write_text("no sound\n" * 100)
    videos["wav"].append(Video("text.wav", str(folder / "text.wav"), None, None, (0,)))
    sizes = {
        kind: np.array([float(Path(video.uri).stat().st_size) for video in present])
        for kind, present in videos.items()
    }
    return Corpus(videos, sizes, num_absent=2)


def test_a_sample_of_all_videos(corpus: Corpus) -> None:
    measured = sample.measure(corpus, SETTINGS, Mode(), num_sampled=100, num_workers=2, seed=0)

    assert corpus.num_videos == 8
    assert measured.num_workers == 2
    assert measured.rejects == {"corrupt": 1}
    # Patches of 0.96 s, without a remainder.
    expected = {kind: [seconds // 0.96 for seconds in SECONDS[kind]] for kind in SECONDS}
    assert measured.num_patches["wav"].tolist() == [*expected["wav"], 0]
    assert measured.num_patches["flac"].tolist() == expected["flac"]
    assert measured.bytes_per_patch == pytest.approx(96 * 64, rel=0.05)
    assert all((seconds > 0).all() for seconds in measured.cpu_seconds.values())

    job = PlannedJob(
        made_by=None,  # type: ignore[arg-type]  # not looked at
        dataset_fingerprint="",
        patches_per_video=None,
        num_videos=8,
        num_workers=4,
        num_shards=10,
    )
    predicted = predict(measured, job)
    num_patches = sum(map(sum, expected.values()))
    assert predicted.audio_hours == pytest.approx([num_patches * 0.96 / 3600] * 3)
    assert predicted.num_bytes == pytest.approx([num_patches * measured.bytes_per_patch] * 3)
    total = sum(seconds.sum() for seconds in measured.cpu_seconds.values())
    assert predicted.cpu_seconds[1] == pytest.approx(total)
    # Of 4 workers 3 wait while the last of 10 shards is extracted.
    assert predicted.wall_seconds[1] == pytest.approx(total / 4 + 3 / 4 * total / 10)

    paper = scale_to_paper(predicted)
    assert paper.cpu_seconds[1] / 5_240_000 == pytest.approx(total / predicted.audio_hours[1])


def test_the_seed_draws_the_sample(corpus: Corpus) -> None:
    drawn = [
        tuple(sample.draw_sample(corpus.sizes, 2, seed)["wav"].sampled) for seed in (0, 0, 1, 2, 3)
    ]
    assert all(len(set(indices)) == 2 for indices in drawn)  # at least two of each kind
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_media_of_the_web_have_no_sizes(tmp_path: Path) -> None:
    """They would count as absent, and cost nothing."""
    row = {"start": None, "end": None, "labels": [0], "split": "train", "group": "all"}
    row |= {"shard": 0, "num_shards": 1, "origins": []}
    rows = [{"id": uri, "uri": uri, **row} for uri in ("https://host/a.mp4", "/data/b.mp4")]
    pq.write_table(pa.Table.from_pylist(rows, VIDEO_SCHEMA), tmp_path / "videos.parquet")
    with pytest.raises(InputError, match="1 of 2 media are on web servers"):
        sample.read_corpus([str(tmp_path / "videos.parquet")], {"train": {"all": 1}}, SETTINGS)
