"""What a runner's page and the log show of a job, against what the job wrote."""

import collections
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts.documents import ExtractedVideo, PatchShard
from features.contracts.sharding import ShardKey
from features.sound.outcome import Outcome
from pipelines import audit_features, extract_features, index_features, prepare_dataset
from pipelines.corpus.encoding import write_media
from pipelines.extraction.patches import ShardResult
from pipelines.extraction.totals import measure_result
from pipelines.runtime import process_pool
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.decoder import DecoderProcess
from pipelines.runtime.failure import PlacedError
from pipelines.runtime.process_pool import MapOnWorkers
from tests.conftest import known_labels

RATE = 16_000


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Commands set the handlers of the loggers; other tests expect none."""
    yield
    for name in ("features", "pipelines", "evaluation"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


def logged(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_the_time_of_an_hour_of_sound_is_of_the_soundtracks_that_were_decoded() -> None:
    def video(name: str, num_patches: int, drawn_from: int | None = None) -> ExtractedVideo:
        return ExtractedVideo(
            id=name,
            uri=name,
            outcome=Outcome.OK,
            detail="",
            num_patches=num_patches,
            drawn_from=drawn_from,
            source="",
        )

    def rate(*decoded: str) -> int | None:
        videos = (video("kept", 500), video("sampled", 9, 50), video("whole", 50))
        key = ShardKey("train", "all", 0, 1)
        sidecar = PatchShard(
            plan="", key=key, num_videos=3, num_patches=559, num_bytes=1, sha256="", videos=videos
        )
        result = ShardResult(sidecar, dict.fromkeys(decoded, 1.0), worker_seconds=0.5)
        return measure_result(result, hop_seconds=0.5).values.get("cpu_ms_per_audio_hour")

    assert rate("sampled", "whole") == 2500 * 3600 / 50
    assert rate("rejected") is None
    assert rate() == 500 * 3600 / 300  # nothing to decode, as when embeddings are made of patches


def measure(number: int) -> Counts:
    return Counts(sums={"odd": number % 2}, values={"size": number}, element=f"number {number}")


def break_down(*args: object, **named: object) -> NoReturn:
    raise KeyError("no such field")


def square(number: int) -> int:
    return number * number


def test_counters_of_a_runner_have_what_the_workers_returned() -> None:
    with process_pool.end_with_job():
        pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
        _ = (
            pipeline
            | beam.Create(range(1, 6))
            | MapOnWorkers(square, 2)
            | CountElements("squares", measure)
        )
        result = pipeline.run()

    def query(namespace: str) -> dict:
        found = result.metrics().query(MetricsFilter().with_namespace(namespace))
        return {
            metric.key.metric.name: metric.committed
            for kind in ("counters", "distributions")
            for metric in found[kind]
        }

    squares = query("squares")
    assert squares["odd"] == 3
    sizes = squares["size"]
    assert (sizes.count, sizes.sum, sizes.min, sizes.max) == (5, 55, 1, 25)
    waits = query("workers")["queue_wait_ms"]
    assert waits.count == 5
    assert 0 <= waits.min <= waits.max < 600_000


def test_lines_of_the_log_add_up_to_the_json_of_the_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((3 * RATE, 1))
    write_media(tmp_path / "a.flac", noise.astype(np.float32), sample_rate=RATE, codec="flac")
    (tmp_path / "broken.flac").write_bytes(b"no sound at all")
    rows = [f"v{index},{'broken' if index == 3 else 'a'}.flac,x,train" for index in range(12)]
    (tmp_path / "m.csv").write_text("\n".join(["id,uri,labels,split", *rows, "v99,,x,train"]))
    dataset, output = str(tmp_path / "data"), str(tmp_path / "features")
    log = ["--verbose", "--log-format=json"]
    labels = known_labels(tmp_path / "m.csv")
    prepare_dataset.main(["--manifest", str(tmp_path / "m.csv"), labels, "--output", dataset, *log])
    prepared = logged(capsys.readouterr().err)
    assert sum(line.get("videos", 0) for line in prepared) == 12
    assert sum(line.get("missing_uri", 0) for line in prepared) == 1

    extract = ["--dataset", dataset, "--output", output, "--workers=1", *log]
    extract_features.main(extract)
    lines = logged(capsys.readouterr().err)
    total = collections.Counter()
    for line in lines:
        if line["stage"] == "extract":
            total.update({key: value for key, value in line.items() if isinstance(value, int)})
    document = json.loads(Path(output, "features.json").read_text())
    assert total["videos_written"] == document["num_written"] == 11
    assert total["videos_corrupt"] == document["rejects"]["corrupt"] == 1
    assert total["patches"] == document["num_patches"] == 33
    assert total["bytes"] == document["splits"]["train"]["num_bytes"]
    assert total["cpu_ms"] == pytest.approx(1e3 * document["work"]["cpu_seconds"], abs=16)
    shards = {line["element"] for line in lines if line["stage"] == "extract"}
    assert len(shards) == total["shards_written"]
    assert {line["severity"] for line in lines} == {"INFO"}
    rates = [line for line in lines if "cpu_ms_per_audio_hour" in line]
    assert sum(line["patches"] for line in rates) == 33
    for line in rates:
        hours = 0.96 * line["patches"] / 3600
        assert line["cpu_ms_per_audio_hour"] * hours == pytest.approx(line["cpu_ms"], abs=1)

    extract_features.main(extract)  # nothing is left to do
    kept = [line for line in logged(capsys.readouterr().err) if line["stage"] == "extract"]
    assert {line["element"] for line in kept} == shards
    assert all("patches" not in line and line["shards_kept"] == 1 for line in kept)

    index_features.main(["--features", output, *log])
    indexed = logged(capsys.readouterr().err)
    assert {line["element"] for line in indexed} == shards
    assert sum(line["bytes"] for line in indexed) == total["bytes"]

    audit_features.main(["--features", output, "--verbose"])
    text = capsys.readouterr().err
    assert "INFO audit train/" in text
    audit_features.main(["--features", output])
    assert "INFO" not in capsys.readouterr().err

    monkeypatch.setattr(DecoderProcess, "decode", break_down)
    with pytest.raises(PlacedError, match=r"^shard train/.*: video v\d+, .*: KeyError: 'no such"):
        extract_features.main([*extract, "--force"])
