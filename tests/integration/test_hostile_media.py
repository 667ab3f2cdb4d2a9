"""Four hundred good files among every kind of bad one come out as they do alone."""

import csv
import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from features.contracts import folders, record, tfrecord
from features.contracts.documents import Features
from features.front_end.front_end import FrontEnd
from features.sound.medium import choose_audio_stream, decode_frames, open_medium
from features.sound.outcome import AudioError, Outcome
from features.sound.soundtrack import PatchSample
from features.sound.waveform import RESAMPLER, read_waveform
from pipelines import extract_features, prepare_dataset
from pipelines.corpus.encoding import write_media
from pipelines.runtime.decoder import decoder_process
from pipelines.runtime.spool import PatchSpool
from tests.conftest import Corpus, known_labels

NUM_GOOD = 400
RATE = 44_100


def sound(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(11)
    return rng.uniform(-0.3, 0.3, (int(seconds * rate), channels)).astype(np.float32)


def mux(
    path: Path,
    seconds: float = 5.0,
    *,
    codec: str = "aac",
    starts: tuple[float, ...] = (0.0,),
    gap: tuple[float, float] | None = None,
    tracks: int = 1,
    video: bool = False,
    **options: str,
) -> None:
    """A file whose audio tracks start late or have a gap (from, to) in their timestamps."""
    with av.open(str(path), "w", options=options) as container:
        rate = 48_000 if codec == "libopus" else RATE
        streams = [container.add_stream(codec, rate=rate, layout="stereo") for _ in range(tracks)]
        picture = container.add_stream("mpeg4", rate=10) if video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for number in range(int(seconds * 10)):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                frame.pts = number
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        for track, stream in enumerate(streams):
            samples = sound(seconds, rate) * (track + 1) / 4
            for start in range(0, len(samples), 1_024):
                block = np.ascontiguousarray(samples[start : start + 1_024])
                frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", "stereo")
                frame.sample_rate = rate
                at = start / rate + starts[track % len(starts)]
                if gap and at >= gap[0]:
                    at += gap[1] - gap[0]
                frame.pts = round(at * rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def zero_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("Lorem ipsum dolor sit amet.\n" * 50)


def half_with_index_at_its_end(path: Path) -> None:
    mux(path)
    cut(path)


def half_with_index_in_front(path: Path) -> None:
    mux(path, 20.0, movflags="faststart")
    cut(path)


def without_moov(path: Path) -> None:
    mux(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])


def mp3_behind_garbage(path: Path) -> None:
    write_media(path.with_suffix(".mp3"), sound(5.0), sample_rate=RATE, codec="libmp3lame")
    garbage = np.random.default_rng(5).integers(0, 256, 65_536, np.uint8).tobytes()
    path.write_bytes(garbage + path.with_suffix(".mp3").read_bytes())
    path.with_suffix(".mp3").unlink()


def wav_that_declares_half(path: Path) -> None:
    soundfile.write(path.with_suffix(".w"), sound(6.0), RATE, format="WAV", subtype="PCM_16")
    content = bytearray(path.with_suffix(".w").read_bytes())
    length = content.index(b"data") + 4
    content[length : length + 4] = struct.pack("<I", len(content) // 2)
    path.write_bytes(content)
    path.with_suffix(".w").unlink()


def film_without_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def eight_channels(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="7.1")
        frame = av.AudioFrame(format="flt", layout="7.1", samples=48_000 * 3)
        frame.planes[0].update(sound(3.0, 48_000, 8).tobytes())
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def eight_kilohertz(path: Path) -> None:
    soundfile.write(path, sound(3.0, 8_000, 1), 8_000, format="WAV")


def ninety_six_kilohertz(path: Path) -> None:
    soundfile.write(path, sound(3.0, 96_000, 2), 96_000, format="FLAC")


def rate_and_channels_that_change(path: Path) -> None:
    parts = []
    for rate, channels in ((44_100, 2), (48_000, 1), (22_050, 2)):
        part = path.with_suffix(".aac")
        write_media(part, sound(2.0, rate, channels), sample_rate=rate, codec="aac")
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))


def chained_ogg(path: Path) -> None:
    parts = []
    for seconds in (2.0, 3.0):
        soundfile.write(path, sound(seconds), RATE, format="OGG", subtype="VORBIS")
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))


def encrypted(path: Path) -> None:
    key = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    kid = {"encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    mux(path, encryption_scheme="cenc-aes-ctr", **key, **kid)


def garbage_in_the_middle(path: Path) -> None:
    write_media(path.with_suffix(".mp3"), sound(20.0), sample_rate=RATE, codec="libmp3lame")
    content = bytearray(path.with_suffix(".mp3").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(range(256)) * 8
    path.write_bytes(content)
    path.with_suffix(".mp3").unlink()


def two_tracks(path: Path) -> None:
    mux(path, tracks=2)


def playlist(path: Path) -> None:
    secret = path.parent / "clip-05.wav"
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{secret}\n"
        "#EXTINF:5,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"
    )


def concat_script(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {path.parent / 'clip-05.wav'}\n")


def not_a_number(path: Path) -> None:
    samples = sound(3.0)
    samples[20_000:20_030] = np.nan
    soundfile.write(path, samples, RATE, format="WAV", subtype="FLOAT")


def infinity(path: Path) -> None:
    samples = sound(3.0)
    samples[100] = np.inf
    soundfile.write(path, samples, RATE, format="WAV", subtype="FLOAT")


def three_seconds_late(path: Path) -> None:
    mux(path, video=True, starts=(3.0,))


def mux_late(path: Path, *, rate: int, seconds: int) -> None:
    """A track of 64 samples that starts late, beside one that starts at once."""
    with av.open(str(path), "w", format="matroska") as container:
        late, other = (
            container.add_stream("pcm_s16le", rate=r, layout="mono") for r in (rate, RATE)
        )
        for stream, start in ((other, 0), (late, seconds)):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 64), np.int16), "s16", "mono")
            frame.sample_rate, frame.time_base = stream.rate, Fraction(1, stream.rate)
            frame.pts = start * stream.rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def late_at_500_megahertz(path: Path) -> None:
    mux_late(path, rate=500_000_000, seconds=500)


def timestamps_with_a_gap(path: Path) -> None:
    mux(path, codec="libopus", gap=(2.0, 4.0), format="webm")


def fifty_milliseconds(path: Path) -> None:
    soundfile.write(path, sound(0.05), RATE, format="WAV")


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    del path


def for_ever(path: Path) -> None:
    os.mkfifo(path)


PLANTED: dict[Callable[[Path], None], tuple[Outcome, int | None]] = {
    zero_bytes: (Outcome.EMPTY_FILE, 0),
    text: (Outcome.CORRUPT, 0),
    half_with_index_at_its_end: (Outcome.CORRUPT, 0),
    half_with_index_in_front: (Outcome.TRUNCATED, 0),
    without_moov: (Outcome.CORRUPT, 0),
    mp3_behind_garbage: (Outcome.OK, 5),
    wav_that_declares_half: (Outcome.TRUNCATED, 0),
    film_without_sound: (Outcome.NO_AUDIO_STREAM, 0),
    eight_channels: (Outcome.OK, 3),
    eight_kilohertz: (Outcome.OK, 3),
    ninety_six_kilohertz: (Outcome.OK, 3),
    rate_and_channels_that_change: (Outcome.OK, 6),
    chained_ogg: (Outcome.OK, 5),
    encrypted: (Outcome.CORRUPT, 0),
    garbage_in_the_middle: (Outcome.OK, 20),
    two_tracks: (Outcome.OK, 5),
    playlist: (Outcome.UNSUPPORTED_CONTAINER, 0),
    concat_script: (Outcome.UNSUPPORTED_CONTAINER, 0),
    not_a_number: (Outcome.NONFINITE_SAMPLES, 0),
    infinity: (Outcome.NONFINITE_SAMPLES, 0),
    three_seconds_late: (Outcome.OK, 8),
    late_at_500_megahertz: (Outcome.CORRUPT, 0),
    timestamps_with_a_gap: (Outcome.OK, 7),
    fifty_milliseconds: (Outcome.TOO_SHORT, 0),
    folder: (Outcome.UNREADABLE, 0),
    missing: (Outcome.NOT_FOUND, 0),
    for_ever: (Outcome.TIMEOUT, 0),
}


def run_job(folder: Path, rows: list[tuple[str, str]], output: str) -> Path:
    with (folder / f"{output}.csv").open("w", newline="") as file:
        splits = ("train", "evaluation")
        lines = [(name, uri, "x", splits[i % 2]) for i, (name, uri) in enumerate(sorted(rows))]
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *lines])
    manifest = folder / f"{output}.csv"
    flags = ["--manifest", str(manifest), known_labels(manifest)]
    prepare_dataset.main([*flags, "--output", str(folder / f"{output}-dataset")])
    flags = ["--dataset", str(folder / f"{output}-dataset"), "--timeout-seconds=5"]
    extract_features.main([*flags, "--output", str(folder / output)])
    return folder / output


def read_patches(features: Path) -> dict[tuple[str, float], bytes]:
    patches = {}
    for path in features.glob("*/*/*.tfrecord"):
        with path.open("rb") as file:
            for data in tfrecord.read_records(file, str(path)):
                one = record.decode(data)
                patches[one.video_id, one.start_seconds] = one.patch
    return patches


@pytest.fixture(scope="module")
def jobs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """FEATURES of the good files alone, and of the good ones among the bad."""
    root = tmp_path_factory.mktemp("hostile")
    media = root / "media"
    shutil.copytree(corpus.manifest.parent, media)
    clips = sorted(path.name for path in media.glob("clip-*"))
    good = [(f"good-{i:03d}", f"media/{clips[i % len(clips)]}") for i in range(NUM_GOOD)]
    bad = []
    for make in PLANTED:
        name = f"{make.__name__}.mp4"  # the name says nothing about the content
        make(media / name)
        bad.append((make.__name__, f"media/{name}"))
    return run_job(root, good, "good"), run_job(root, good + bad, "mixed")


def test_good_files_come_out_as_without_the_bad(jobs: tuple[Path, Path]) -> None:
    alone, among = (read_patches(folder) for folder in jobs)

    ids = {video_id for video_id, _ in alone}
    assert len(ids) == NUM_GOOD
    assert alone == {place: patch for place, patch in among.items() if place[0] in ids}


@pytest.mark.parametrize("make", PLANTED, ids=lambda make: make.__name__)
def test_each_bad_file_has_its_outcome(
    jobs: tuple[Path, Path], make: Callable[[Path], None]
) -> None:
    sidecars = [json.loads(path.read_text()) for path in jobs[1].glob("*/*/*.json")]
    (video,) = (v for one in sidecars for v in one["videos"] if v["id"] == make.__name__)

    outcome, num_patches = PLANTED[make]
    assert (video["outcome"], video["num_patches"]) == (outcome, num_patches), video["detail"]
    assert bool(video["detail"]) == (outcome != Outcome.OK)


def test_accounts_add_up(jobs: tuple[Path, Path]) -> None:
    document = folders.read_document(str(jobs[1]), Features)
    num_ok = sum(outcome == Outcome.OK for outcome, _ in PLANTED.values())

    assert document.num_videos == NUM_GOOD + len(PLANTED)
    assert document.num_written == NUM_GOOD + num_ok
    assert sum(document.rejects.values()) == len(PLANTED) - num_ok


def test_drawn_patches_have_the_same_outcomes(tmp_path: Path) -> None:
    """Two patches of each bad file; damage that they do not touch is not seen."""
    unseen = {half_with_index_in_front}  # docs/architecture.md
    front_end = FrontEnd(resampler=RESAMPLER)
    with PatchSpool(front_end.patch_bytes) as spool, decoder_process() as decoder:
        for make, (outcome, num_patches) in PLANTED.items():
            make(path := tmp_path / f"{make.__name__}.mp4")
            before, found = len(spool), Outcome.OK
            sample = PatchSample(2, seed=3)
            try:
                list(decoder.decode(str(path), front_end, spool, sample=sample, timeout_seconds=5))
            except AudioError as error:
                found = error.outcome
            if found == Outcome.OK and len(spool) == before:
                found = Outcome.TOO_SHORT
            assert found == outcome or (make in unseen and found == Outcome.OK), make.__name__
            if outcome == Outcome.OK:
                assert (len(spool) - before, decoder.drawn_from) == (2, num_patches), make.__name__


def test_patches_are_on_the_clock_of_the_medium(jobs: tuple[Path, Path]) -> None:
    patches = read_patches(jobs[1])

    def silent(name: str) -> list[bool]:
        places = sorted(place for place in patches if place[0] == name)
        return [not any(patches[place]) for place in places]  # uint8 zero is digital silence

    assert silent("three_seconds_late") == [True] * 3 + [False] * 5
    # Sound from 0 to 2 s and from 4 to 7 s: patches 3 and 4 (2.88 to 4.8 s) are half and half.
    gap = silent("timestamps_with_a_gap")
    assert gap == [False, False, False, True, False, False, False]


def test_silence_at_the_highest_rate_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    mux_late(path, rate=3_000_000, seconds=20)  # 240 MB

    tracemalloc.start()
    num_samples = sum(map(len, read_waveform(str(path), sample_rate_hz=16_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert num_samples == 20 * 16_000
    assert peak < 60e6


def test_frames_of_any_length_are_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "long.mkv"
    expected = np.random.default_rng(2).integers(-9_999, 9_999, (12, 50_000), np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for packet in expected:
            frame = av.AudioFrame.from_ndarray(packet[None], "s16", "mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))

    with open_medium(str(path)) as (source, _):
        frames = list(decode_frames(source, choose_audio_stream(source), 16, 70_000))
    samples = np.concatenate(list(read_waveform(str(path), sample_rate_hz=16_000)))

    assert [len(some) for some in frames] == [2] * 6
    np.testing.assert_array_equal(samples * 2**15, expected.ravel())
