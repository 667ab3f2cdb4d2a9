"""Media files of any length for benchmarks: sounds in noise, with a real video stream.

A minute is synthesised and encoded; longer files repeat its packets with later timestamps. These
cost a decoder as much as new packets, and an hour of media takes a second to write.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from pipelines.corpus.encoding import write_media
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES, colored_noise, synthesise

_VIDEO_CODECS = {".mp4": "mpeg4", ".webm": "libvpx"}
_VIDEO_WIDTH, _VIDEO_HEIGHT, _VIDEO_RATE, _VIDEO_BITS_PER_SECOND = 640, 360, 25, 500_000
_VIDEO_SECONDS = 4.0
_EVENT_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """Container and codec of a soundtrack; `name` is for tables."""

    name: str
    suffix: str
    codec: str
    sample_rate: int
    video: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("wav", ".wav", "pcm_s16le", 44_100),
        Kind("flac", ".flac", "flac", 44_100),
        Kind("mp3", ".mp3", "libmp3lame", 44_100),
        Kind("mp4/AAC", ".mp4", "aac", 44_100, video=True),
        Kind("webm/Opus", ".webm", "libopus", 48_000, video=True),
        Kind("ogg/Vorbis", ".ogg", "vorbis", 44_100),
    )
}


def mixture(*, seconds: float, sample_rate: int, seed: int) -> np.ndarray:
    """Mix two sounds at a time with pink noise, up to half the sample rate.

    Returns:
      float32 [samples, 2], in [-1, 1).
    """
    rng = np.random.default_rng(seed)
    num_samples = int(seconds * sample_rate)
    channels = [
        colored_noise(num_samples=num_samples, sample_rate=sample_rate, exponent=1.0, rng=rng)
        for _ in range(2)
    ]
    mix = np.stack(channels, axis=1)  # [samples, 2]
    event_samples = int(_EVENT_SECONDS * sample_rate)
    for start in range(0, num_samples - event_samples + 1, event_samples):
        for sound_class in rng.choice(np.array(SOUND_CLASSES, dtype=object), 2, replace=False):
            sound = synthesise(
                sound_class, num_samples=event_samples, sample_rate=sample_rate, rng=rng
            )
            balance = rng.uniform(0.5, 1.5, 2)
            mix[start : start + event_samples] += sound[:, None] * balance
    return (mix * (0.7 / np.abs(mix).max())).astype(np.float32)


def write_soundtrack(
    path: Path, kind: Kind, *, minutes: float, seed: int = 0, base_seconds: float = 60.0
) -> None:
    """Write a stereo file, at least `minutes` long.

    Args:
      path: the file to write, with the suffix of the kind.
      kind: container and codec.
      minutes: duration, rounded up to a multiple of `base_seconds`.
      seed: of the sounds.
      base_seconds: duration that is synthesised and encoded before packets repeat.
    """
    base_seconds = min(base_seconds, minutes * 60)
    base = path.with_name(f".base-{path.stem}{'.m4a' if kind.suffix == '.mp4' else kind.suffix}")
    samples = mixture(seconds=base_seconds, sample_rate=kind.sample_rate, seed=seed)
    num_repeats = int(np.ceil(minutes * 60 / base_seconds))
    if num_repeats > 1 and kind.codec in ("flac", "pcm_s16le"):
        # Their headers have the length, and encoding is fast.
        samples = np.tile(samples, (num_repeats, 1))
        num_repeats = 1
    write_media(base, samples, sample_rate=kind.sample_rate, codec=kind.codec)
    if num_repeats == 1 and not kind.video:
        base.replace(path)
        return
    with av.open(str(base)) as source, av.open(str(path), "w") as target:
        audio_in = source.streams.audio[0]
        audio = target.add_stream_from_template(audio_in)
        audio_packets = [packet for packet in source.demux(audio_in) if packet.size]
        if num_repeats > 1:
            # The last packet may be trimmed, and its duration less than what it decodes to.
            audio_packets.pop()
        video, video_packets = None, []
        if kind.video:
            video = target.add_stream(_VIDEO_CODECS[kind.suffix], rate=_VIDEO_RATE)
            assert isinstance(video, av.VideoStream)
            video.width, video.height, video.pix_fmt = _VIDEO_WIDTH, _VIDEO_HEIGHT, "yuv420p"
            video.bit_rate = _VIDEO_BITS_PER_SECOND
            if kind.suffix == ".webm":
                video.codec_context.options = {"deadline": "realtime", "cpu-used": "16"}
            video_packets = _encode_video(video, seed)
        _repeat(target, [(audio, audio_packets), (video, video_packets)], minutes * 60)
    base.unlink()


def _encode_video(video: av.VideoStream, seed: int) -> list[av.Packet]:
    """Encode a grainy moving picture."""
    rng = np.random.default_rng(seed)
    grain = rng.integers(0, 64, (_VIDEO_HEIGHT, 2 * _VIDEO_WIDTH), np.uint8)
    grain += (np.arange(2 * _VIDEO_WIDTH) // 8 % 160).astype(np.uint8)
    packets = []
    for index in range(int(_VIDEO_SECONDS * _VIDEO_RATE)):
        left = 5 * index % _VIDEO_WIDTH
        picture = np.full((_VIDEO_HEIGHT * 3 // 2, _VIDEO_WIDTH), 128, np.uint8)
        picture[:_VIDEO_HEIGHT] = grain[:, left : left + _VIDEO_WIDTH]
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts = index
        packets += video.encode(frame)
    return packets + video.encode(None)


def _times(packet: av.Packet) -> tuple[int, int]:
    assert packet.dts is not None  # all encoders give both
    assert packet.pts is not None
    return packet.dts, packet.pts


def _repeat(
    target: av.container.OutputContainer,
    streams: list[tuple[av.stream.Stream | None, list[av.Packet]]],
    seconds: float,
) -> None:
    """Mux the packets of each stream again and again, interleaved by time, up to a length."""

    def timeline(stream: av.stream.Stream, packets: list[av.Packet]) -> Iterator[tuple]:
        times = [_times(packet) for packet in packets]
        first, last = times[0][0], times[-1][0]
        durations = [packet.duration or 0 for packet in packets]
        # Matroska rounds timestamps to 1 ms, which would add up.
        length = sum(durations) if all(durations) else last - first + max(durations[-1], 1)
        base = packets[0].time_base
        for turn in range(int(np.ceil(seconds / float(length * base)))):
            for packet, (dts, pts) in zip(packets, times, strict=True):
                dts += turn * length
                yield float(dts * base), dts, pts + turn * length, base, packet, stream

    timelines = [timeline(stream, packets) for stream, packets in streams if stream and packets]
    for _, dts, pts, base, packet, stream in _merged(timelines):
        # The muxer takes over a packet's timestamps, not its bytes.
        packet.stream, packet.time_base = stream, base
        packet.dts, packet.pts = dts, pts
        target.mux_one(packet)


def _merged(timelines: list[Iterator[tuple]]) -> Iterator[tuple]:
    heads = [(next(timeline), timeline) for timeline in timelines]
    while heads:
        index = min(range(len(heads)), key=lambda i: heads[i][0][0])
        head, timeline = heads[index]
        yield head
        following = next(timeline, None)
        if following is None:
            del heads[index]
        else:
            heads[index] = (following, timeline)
