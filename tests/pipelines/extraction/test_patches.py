"""`extract_shard` as a plain function on real media: what is decoded, kept and written."""

import collections
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.contracts import shards
from features.contracts.documents import ExtractedVideo, PatchShard
from features.contracts.record import PatchRecord
from features.contracts.sharding import ALL, TRAIN, ShardKey
from features.contracts.videos import Video
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.outcome import Outcome
from features.sound.waveform import RESAMPLER
from pipelines.extraction import patches
from pipelines.extraction.patches import (
    Mode,
    Settings,
    ShardPlan,
    ShardResult,
    extract_shard,
    forget_videos,
)

KEY = ShardKey(TRAIN, ALL, 0, 1)
FRONT_END = FrontEnd(resampler=RESAMPLER, log_mel=LogMelParams(), storage=PatchStorage())
SETTINGS = Settings(front_end=FRONT_END, seed=0, keep_partial=False)
MODE = Mode(timeout_seconds=120.0)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard of the media `a` (2 s), `b` (3 s) and `c` (not there), and its output folder."""

    media: Path
    output: Path
    plan: ShardPlan

    def extract(self, mode: Mode = MODE, plan: ShardPlan | None = None) -> ShardResult:
        return extract_shard(plan or self.plan, str(self.output), mode)

    @property
    def path(self) -> str:
        return str(self.output / KEY.path(shards.PATCHES))

    @property
    def sidecar(self) -> PatchShard:
        return shards.read_sidecar(self.path, PatchShard)

    @property
    def written_at(self) -> tuple[int, int]:
        records, sidecar = (Path(self.path + suffix) for suffix in (".tfrecord", ".json"))
        return records.stat().st_mtime_ns, sidecar.stat().st_mtime_ns

    def records(self) -> dict[tuple[str, float], PatchRecord]:
        found = shards.read_records(self.path)
        return {(record.video_id, record.start_seconds): record for record in found}


def write_noise(path: Path, seconds: float) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, int(16_000 * seconds))
    soundfile.write(path, samples, 16_000)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    media = tmp_path / "media"
    media.mkdir()
    write_noise(media / "a.wav", 2.0)
    write_noise(media / "b.wav", 3.0)
    videos = tuple(
        Video(name, str(media / f"{name}.wav"), None, None, (index,))
        for index, name in enumerate("abc")
    )
    return Shard(media, tmp_path / "features", ShardPlan(KEY, videos, SETTINGS))


def outcomes(sidecar: PatchShard) -> dict[str, tuple[Outcome, int]]:
    return {video.id: (video.outcome, video.num_patches) for video in sidecar.videos}


def video(sidecar: PatchShard, video_id: str) -> ExtractedVideo:
    return next(video for video in sidecar.videos if video.id == video_id)


def test_the_result_is_what_the_sidecar_says_and_names_the_work(shard: Shard) -> None:
    result = shard.extract()

    assert result.sidecar == shard.sidecar
    assert result.sidecar.plan == shard.plan.fingerprint
    assert outcomes(result.sidecar) == {
        "a": (Outcome.OK, 2),
        "b": (Outcome.OK, 3),
        "c": (Outcome.NOT_FOUND, 0),
    }
    assert len(shard.records()) == 5
    assert result.decoder_seconds.keys() == {"a", "b", "c"}
    assert result.decoder_seconds["b"] > 0
    assert result.worker_seconds > 0
    # What the work took differs from run to run and is not on disk.
    assert "seconds" not in Path(shard.path + ".json").read_text()


def test_a_finished_shard_is_kept_and_a_missing_file_retried(shard: Shard) -> None:
    first = shard.extract()
    before = shard.written_at

    assert shard.extract() == ShardResult(first.sidecar)
    assert shard.written_at == before

    write_noise(shard.media / "c.wav", 1.0)
    result = shard.extract()
    assert result.decoder_seconds.keys() == {"c"}
    assert outcomes(result.sidecar)["c"] == (Outcome.OK, 1)
    assert len(shard.records()) == 6


def test_force_decodes_everything_to_the_same_bytes(shard: Shard) -> None:
    first = shard.extract()
    forced = shard.extract(dataclasses.replace(MODE, force=True))

    assert forced.decoder_seconds.keys() == {"a", "b", "c"}
    assert forced.sidecar == first.sidecar


def test_a_reject_for_good_is_retried_by_only_rejects(shard: Shard) -> None:
    (shard.media / "c.wav").write_text("no medium\n" * 100)
    rejected = shard.extract()
    assert outcomes(rejected.sidecar)["c"] == (Outcome.CORRUPT, 0)
    write_noise(shard.media / "c.wav", 1.0)

    assert shard.extract() == ShardResult(rejected.sidecar)
    retried = shard.extract(dataclasses.replace(MODE, only_rejects=True))
    assert retried.decoder_seconds.keys() == {"c"}
    assert outcomes(retried.sidecar)["c"] == (Outcome.OK, 1)


def test_other_labels_are_written_without_decoding(shard: Shard) -> None:
    first, before = shard.extract(), shard.records()
    for path in shard.media.iterdir():
        path.unlink()  # now nothing can be decoded
    videos = [dataclasses.replace(video, labels=(7, 9)) for video in shard.plan.videos]
    plan = dataclasses.replace(shard.plan, videos=tuple(videos))

    result = shard.extract(plan=plan)

    assert result.decoder_seconds.keys() == {"c"}  # a missing file is always retried
    assert result.sidecar.plan != first.sidecar.plan
    assert result.sidecar.videos == first.sidecar.videos
    expected = {key: dataclasses.replace(one, labels=(7, 9)) for key, one in before.items()}
    assert shard.records() == expected


def test_a_video_that_leaves_the_plan_leaves_the_shard(shard: Shard) -> None:
    shard.extract()
    plan = dataclasses.replace(shard.plan, videos=shard.plan.videos[:1])

    result = shard.extract(plan=plan)

    assert not result.decoder_seconds
    assert {video_id for video_id, _ in shard.records()} == {"a"}


@pytest.mark.parametrize("suffix", [".tfrecord", ".json"])
def test_a_missing_file_of_the_shard_rebuilds_it(shard: Shard, suffix: str) -> None:
    first, before = shard.extract(), Path(shard.path + ".tfrecord").read_bytes()
    Path(shard.path + suffix).unlink()

    assert shard.extract().sidecar == first.sidecar
    assert Path(shard.path + ".tfrecord").read_bytes() == before


def test_a_damaged_record_file_is_decoded_where_it_cannot_be_copied(shard: Shard) -> None:
    first, before = shard.extract(), shard.records()
    path = Path(shard.path + ".tfrecord")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # in the last record; the size stays
    path.write_bytes(content)
    order = [record.video_id for record in before.values()]
    plan = dataclasses.replace(
        shard.plan, settings=dataclasses.replace(SETTINGS, seed=1)
    )  # with the same plan a shard of the right size is kept, and the audit finds the damage

    result = shard.extract(plan=plan)

    assert result.decoder_seconds.keys() == {order[-1], "c"}
    assert shard.records() == before
    assert result.sidecar.videos == first.sidecar.videos


@pytest.mark.parametrize("ids", ["a", "bc", "abc"])
def test_a_removal_gives_the_shard_that_extraction_gives(shard: Shard, ids: str) -> None:
    forgotten = dataclasses.replace(MODE, forgotten=frozenset(ids))

    def content() -> list[bytes]:
        return [Path(shard.path + suffix).read_bytes() for suffix in (".tfrecord", ".json")]

    shard.extract(dataclasses.replace(forgotten, force=True))
    expected = content()
    shard.extract()  # nothing is forgotten now
    assert len(shard.records()) == 5
    result = shard.extract(forgotten)
    assert content() == expected
    assert "c" not in ids or not result.decoder_seconds  # else it is not found again
    shard.extract()

    forget_videos(KEY, str(shard.output), SETTINGS, forgotten.forgotten)

    assert content() == expected
    assert {name for name, _ in shard.records()} == set("ab") - set(ids)
    assert {
        name for name, (found, _) in outcomes(shard.sidecar).items() if found == "forgotten"
    } == (set(ids))


@pytest.fixture
def slow(shard: Shard) -> Shard:
    """A shard of one video, which hangs the decoder as long as it is a pipe."""
    path = shard.media / "slow.wav"
    os.mkfifo(path)
    videos = (Video("slow", str(path), None, None, (0,)),)
    return dataclasses.replace(shard, plan=ShardPlan(KEY, videos, SETTINGS))


SHORT, LONGER = Mode(timeout_seconds=0.2), Mode(timeout_seconds=0.3)


def replace_pipe(slow: Shard) -> None:
    (slow.media / "slow.wav").unlink()
    write_noise(slow.media / "slow.wav", 2.0)


def test_a_timeout_is_retried_only_with_a_higher_limit(slow: Shard) -> None:
    rejected = slow.extract(SHORT)
    assert outcomes(rejected.sidecar) == {"slow": (Outcome.TIMEOUT, 0)}
    assert video(rejected.sidecar, "slow").timeout_seconds == 0.2
    before = slow.written_at
    replace_pipe(slow)
    assert slow.extract(SHORT) == ShardResult(rejected.sidecar)
    assert slow.written_at == before

    result = slow.extract()

    assert outcomes(result.sidecar) == {"slow": (Outcome.OK, 2)}
    assert video(result.sidecar, "slow").timeout_seconds is None
    assert result.decoder_seconds.keys() == {"slow"}


def test_a_second_timeout_notes_its_limit_and_keeps_the_records(slow: Shard) -> None:
    slow.extract(SHORT)
    records, _ = slow.written_at

    retried = slow.extract(LONGER)

    assert outcomes(retried.sidecar) == {"slow": (Outcome.TIMEOUT, 0)}
    assert video(retried.sidecar, "slow").timeout_seconds == 0.3
    assert retried.sidecar == slow.sidecar
    assert slow.written_at[0] == records
    assert slow.extract(LONGER) == ShardResult(retried.sidecar)


def test_a_timeout_of_an_older_version_is_retried(slow: Shard) -> None:
    slow.extract(SHORT)
    path = Path(slow.path + ".json")
    document = json.loads(path.read_text())
    for entry in document["videos"]:
        del entry["timeout_seconds"]  # not written by that version
    path.write_text(json.dumps(document))
    replace_pipe(slow)

    assert outcomes(slow.extract().sidecar) == {"slow": (Outcome.OK, 2)}


def test_a_video_is_fingerprinted_once(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    shard.extract()
    counts: collections.Counter[str] = collections.Counter()

    def count(value: object) -> str:
        if isinstance(value, list) and isinstance(value[0], str) and value[0].endswith(".wav"):
            counts[value[0]] += 1
        return fingerprint(value)

    monkeypatch.setattr(patches, "fingerprint", count)
    videos = [dataclasses.replace(video, labels=(1,)) for video in shard.plan.videos]
    shard.extract(plan=dataclasses.replace(shard.plan, videos=tuple(videos)))

    assert set(counts.values()) == {1}
    assert len(counts) == 3


def test_other_origins_change_the_sidecar_alone(shard: Shard) -> None:
    first = shard.extract().sidecar
    written = Path(shard.path + shards.RECORDS_SUFFIX).stat().st_mtime_ns
    videos = tuple(dataclasses.replace(video, origins=("a", "b")) for video in shard.plan.videos)
    other = dataclasses.replace(shard, plan=dataclasses.replace(shard.plan, videos=videos))

    second = other.extract()

    assert second == ShardResult(second.sidecar)  # nothing was decoded
    assert second.sidecar == shard.sidecar
    assert {video.origins for video in second.sidecar.videos} == {("a", "b")}
    assert second.sidecar.plan == first.plan
    assert Path(shard.path + shards.RECORDS_SUFFIX).stat().st_mtime_ns == written
