"""Packets of a soundtrack: demuxed, placed on its waveform, and mostly dropped undecoded.

All packets are read, in most media once. How many samples each of them gives follows from its
codec, its duration or its first bytes, so that its place in the waveform is known to the sample.
The packets that may be asked for are kept, and those before them that the decoder has to see first.
If a packet gives anything else than predicted, the whole soundtrack has to be decoded:
`DecodeWholeError`.

The first reading expects the length that the container gives, and packets no longer than those so
far. So the parts are chosen at once, and packets between them are dropped before they are placed.
If the medium turns out otherwise (`UnexpectedLengthError`), a second reading expects nothing.
"""

import dataclasses
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import av
import numpy as np

from features.sound.clock import TOLERANCE_SECONDS, MediumClock
from features.sound.medium import average_channels, decode_packet, take_packets
from features.sound.outcome import AudioError

# FFmpeg's name of a codec -> what its decoder has to see before it gives what it gives in the whole
# soundtrack: packets, seconds. The transforms of AAC, MP2 and Vorbis overlap by one packet. A
# packet of MP3 takes bits from up to nine packets before it. Opus predicts: the 80 ms that its
# standard names leave an error of 0.34 rms in log-mel.
_PREROLL = {
    "aac": (1, 0.0),
    "flac": (0, 0.0),
    "mp2": (1, 0.0),
    "mp3": (10, 0.0),
    "opus": (0, 0.2),
    "vorbis": (1, 0.0),
}
# Codecs of which every packet gives the same number of samples.
_FIXED = {"aac", "mp2", "mp3"}
# Twice as many are a spectrum that is completed from packets long before.
_AAC_SAMPLES = 1_024
# Packets are kept up to this size, with what a packet takes beside its bytes.
_MAX_KEPT_BYTES, _PACKET_BYTES = 64 << 20, 512
# Packets that may be kept are read in small batches, which use the same memory again while it is in
# the caches; the others one by one, and placed so many at a time.
_BATCH, _MIN_UNKEPT, _MAX_UNKEPT = 128, 32, 2_048
# A soundtrack is expected to have this share of the length that its container gives.
_EXPECTED_SHARE = 0.98
# A part needs no packets that end earlier than this before it: ten of MP3 at 8 kHz take 0.72 s.
_REACH_SECONDS = 1.0
# Decoded before all others, to learn the sample rate and the length of a packet.
_NUM_PROBED = 4
# Packets at the end that may be trimmed: MP3 encoders pad by up to 4,095 samples.
_NUM_TAIL = 9
# Samples at 48 kHz of a frame of Opus by the highest five bits of a packet (RFC 6716, 3.1); and of
# a packet by its first byte. Its last two bits say that there are one or two frames, or more: 0.
_OPUS_FRAMES = [480, 960, 1920, 2880] * 3 + [480, 960] * 2 + [120, 240, 480, 960] * 4
_OPUS_SAMPLES = [frame * count for frame in _OPUS_FRAMES for count in (1, 2, 2, 0) * 2]


class DecodeWholeError(Exception):
    """Parts of this soundtrack cannot be decoded alone; decode the whole instead."""


class UnexpectedLengthError(Exception):
    """The soundtrack or a packet has another length than expected; read without expectations."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Consecutive packets, and the samples of the waveform that they are decoded for.

    Attributes:
      fed: first packet that the decoder sees.
      begin, end: packets whose output is used.
      first, last: samples.
    """

    fed: int
    begin: int
    end: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True, eq=False)
class PacketIndex:
    """Where the packets of a soundtrack are in its waveform, at the sample rate of the medium.

    Attributes:
      sample_rate: hertz.
      starts: int64 [packets], first samples, in ascending order.
      lengths: int64 [packets], numbers of samples.
      seconds: length of the waveform; None if not all packets were read.
      preroll: packets and seconds that the decoder has to see before a packet.
      packets: those that are kept, by number.
      head: what a new decoder gives for the first packets. After a flush, a decoder of AAC still
        remembers the shape of its last window.
    """

    sample_rate: int
    starts: np.ndarray
    lengths: np.ndarray
    seconds: float | None
    preroll: tuple[int, float]
    packets: Mapping[int, av.Packet]
    head: Sequence[list[av.AudioFrame]]

    @property
    def num_samples(self) -> int:
        """Length of the waveform."""
        return int(self.starts[-1] + self.lengths[-1])

    def find_runs(self, parts: Iterable[tuple[int, int]]) -> Iterator[Run]:
        """The packets of parts of the waveform; parts that share packets become one run.

        Args:
          parts: first sample and end of each, both in ascending order.
        """
        current = None
        for first, last in parts:
            run = self._find_run(first, last)
            if current is None or run.fed >= current.end:
                if current is not None:
                    yield current
                current = run
            else:
                current = dataclasses.replace(current, end=max(current.end, run.end), last=last)
        if current is not None:
            yield current

    def _find_run(self, first: int, last: int) -> Run:
        begin = max(0, int(np.searchsorted(self.starts, first, "right")) - 1)
        end = max(begin, int(np.searchsorted(self.starts, last, "left")))
        num_packets, seconds = self.preroll
        earliest = self.starts[begin] - round(seconds * self.sample_rate)
        fed = min(begin - num_packets, int(np.searchsorted(self.starts, earliest, "right")) - 1)
        # The decoder drops the first samples of a soundtrack only if it sees the first packet.
        return Run(0 if fed < _NUM_PROBED else fed, begin, end, first, last)


def read_packets(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    find_parts: "FindParts",
    *,
    expects: bool,
) -> PacketIndex:
    """Read the packets of a stream that was just opened, and keep those of some parts.

    Args:
      container: of the stream.
      stream: the soundtrack.
      find_parts: chooses the parts.
      expects: whether to expect the length that the container gives, and packets no longer than
        those so far.

    Raises:
      AudioError: the container is damaged.
      UnexpectedLengthError: not so if nothing is expected.
      DecodeWholeError: what the packets give cannot be predicted, or too many are asked for.
    """
    codec = stream.codec_context.codec.canonical_name
    preroll = (0, 0.0) if codec.startswith("pcm_") else _PREROLL.get(codec)
    if preroll is None:
        raise DecodeWholeError(f"the codec {codec}")
    source = container.demux(stream)
    head = list(take_packets(source, _NUM_PROBED))
    frames = _probe(stream.codec_context, head)
    placer = _Placer(codec, stream, MediumClock(container), head, frames)
    empty = np.empty(0, np.int64)
    index = PacketIndex(placer.rate, empty, empty, None, preroll, {}, frames)
    seconds_expected = _EXPECTED_SHARE * (container.duration or 0) / av.time_base if expects else 0
    expected = round(seconds_expected * placer.rate)
    keeper = _Keeper(index, find_parts, expected)
    tail: deque[av.Packet] = deque(maxlen=_NUM_TAIL)
    kept: list[av.Packet] | None = []
    measured = placer.measure(head, kept, tail)
    while measured.values:
        keeper.add(kept, *placer.place(measured))
        if keeper.is_done:
            return keeper.index()
        num_unkept = keeper.count_unneeded(placer.longest) if expects else 0
        is_kept = num_unkept < _MIN_UNKEPT
        count, kept = (_BATCH, []) if is_kept else (min(num_unkept, _MAX_UNKEPT), None)
        measured = placer.measure(take_packets(source, count), kept, tail)
    index = keeper.index()
    num_tail = min(len(tail), len(index.lengths) - len(head))  # what the head gives is known
    ends = index.lengths[len(index.lengths) - num_tail :]
    cut = np.minimum(placer.trims(list(tail)[len(tail) - num_tail :]), ends)
    ends -= cut
    if index.num_samples < expected:
        raise UnexpectedLengthError
    seconds = placer.clock.seconds - float(cut.sum()) / index.sample_rate
    return dataclasses.replace(index, seconds=seconds)


class Parts(NamedTuple):
    """Parts of a soundtrack.

    Attributes:
      wanted: those that are asked for if the soundtrack is no longer: first sample and end of each,
        both in ascending order. One that is not asked for is not asked for in a longer soundtrack.
      next: first sample and end of the first part that may be asked for in a longer soundtrack;
        None if there is none.
    """

    wanted: Sequence[tuple[int, int]]
    next: tuple[int, int] | None


# Maps the sample rate and the number of samples of a soundtrack to parts of it.
FindParts = Callable[[int, int], Parts]


class _Keeper:
    """Keeps the packets of the wanted parts, and those that the next part may need."""

    def __init__(self, index: PacketIndex, find_parts: FindParts, expected: int) -> None:
        self._index, self._find_parts, self._expected = index, find_parts, expected
        self._parts = find_parts(index.sample_rate, expected)
        self._next = next(iter(self._parts.wanted), self._parts.next)
        self._starts: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._num_packets = self._position = 0
        self._recent: dict[int, av.Packet] = {}
        self._kept: dict[tuple[int, int], dict[int, av.Packet]] = {}  # by part
        self._num_bytes: dict[tuple[int, int], int] = {}
        self._reach = round(_REACH_SECONDS * index.sample_rate)

    @property
    def is_done(self) -> bool:
        """Whether no later packet is needed."""
        return self._next is None

    def count_unneeded(self, longest: int) -> int:
        """The number of packets to come that no part needs, if none is longer than `longest`."""
        return (
            0 if self._next is None else (self._next[0] - self._reach - self._position) // longest
        )

    def add(
        self, batch: Sequence[av.Packet] | None, starts: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Add the next packets; None for packets that no part needs.

        Raises:
          DecodeWholeError: the kept packets are too large.
          UnexpectedLengthError: a part needs them.
        """
        if self._next is None:
            return
        self._starts.append(starts)
        self._lengths.append(lengths)
        first, last = self._next
        self._position = int(starts[-1] + lengths[-1])
        if batch is None and self._position > first - self._reach:
            raise UnexpectedLengthError
        if batch is not None and self._position >= first - self._reach:
            self._recent.update(enumerate(batch, self._num_packets))
        self._num_packets += len(starts)
        # The last packets may be trimmed yet.
        if len(starts) > _NUM_TAIL and starts[-_NUM_TAIL] > last:
            self._choose(int(starts[-_NUM_TAIL]))

    def _choose(self, num_samples: int) -> None:
        """Keep the packets of the parts so far, and drop those of parts no longer wanted."""
        index = self._extend_index()
        if num_samples > self._expected:
            self._parts = self._find_parts(index.sample_rate, num_samples)
        parts = self._parts
        ready = [part for part in parts.wanted if part[1] <= num_samples]
        new = [part for part in ready if part not in self._kept]
        present = self._packets() if new else {}
        kept = {part: self._kept[part] for part in parts.wanted if part in self._kept}
        for part in new:
            (run,) = index.find_runs([part])
            kept[part] = {number: present[number] for number in range(run.fed, run.end)}
            self._num_bytes[part] = sum(
                [packet.size + _PACKET_BYTES for packet in kept[part].values()]
            )
        if sum([self._num_bytes[part] for part in kept]) > _MAX_KEPT_BYTES:
            raise DecodeWholeError(f"the packets of {len(kept)} parts are too large")
        self._kept = kept
        self._next = parts.wanted[len(ready)] if len(ready) < len(parts.wanted) else parts.next
        begin = len(index.starts)
        if self._next is not None:
            begin = int(np.searchsorted(index.starts, self._next[0] - self._reach)) - 1
        self._recent = {
            number: packet for number, packet in self._recent.items() if number >= begin
        }

    def index(self) -> PacketIndex:
        """All packets so far."""
        return dataclasses.replace(self._extend_index(), packets=self._packets())

    def _packets(self) -> dict[int, av.Packet]:
        kept: dict[int, av.Packet] = {}
        for packets in self._kept.values():
            kept |= packets
        return kept | self._recent

    def _extend_index(self) -> PacketIndex:
        self._index = dataclasses.replace(
            self._index,
            starts=np.concatenate([self._index.starts, *self._starts]),
            lengths=np.concatenate([self._index.lengths, *self._lengths]),
        )
        self._starts, self._lengths = [], []
        return self._index


def _probe(
    context: av.AudioCodecContext, packets: Sequence[av.Packet]
) -> list[list[av.AudioFrame]]:
    """Decode the first packets; returns the frames of each."""
    try:
        frames = [decode_packet(context, packet) for packet in packets]
    except AudioError as error:
        raise DecodeWholeError(str(error)) from error
    if len({frame.sample_rate for packet in frames for frame in packet}) != 1:
        raise DecodeWholeError("no sound, or two sample rates, in the first packets")
    return frames


class _Measured(NamedTuple):
    """What is read from each of some packets: a number that gives its samples, and its time."""

    values: Sequence[int]
    ticks: Sequence[int | None]


class _Placer:
    """Places packets on the waveform without decoding them, batch by batch.

    Attributes:
      rate: sample rate in hertz.
      longest: samples of the longest packet so far.
      clock: of the medium, at the end of the packets so far.
    """

    def __init__(
        self,
        codec: str,
        stream: av.AudioStream,
        clock: MediumClock,
        head: Sequence[av.Packet],
        frames: Sequence[Sequence[av.AudioFrame]],
    ) -> None:
        assert stream.time_base is not None
        self.clock = clock
        self.rate = next(frame.sample_rate for packet in frames for frame in packet)
        self._time_base = float(stream.time_base)
        self._tick = self._time_base * self.rate  # in samples
        self._fixed = max(frame.samples for packet in frames for frame in packet)
        self._blocks: tuple[int, ...] = ()
        self.longest = max(1, self._fixed)
        if codec == "vorbis":  # the first packets may all be short
            self.longest = max(_vorbis_blocks(stream)) // 2
        self._measure, self._by_duration = self._choose_measure(codec, stream)
        if codec not in _FIXED:
            self._fixed = 0
        elif codec == "aac" and self._fixed != _AAC_SAMPLES:
            raise DecodeWholeError(f"{self._fixed} samples a packet of AAC")
        # The first packet of Vorbis gives nothing, and nothing more is dropped.
        self._num_skipped = 0 if codec == "vorbis" else _skips(head[0])[0]
        self._head = [sum(frame.samples for frame in packet) for packet in frames]
        self._position, self._last_block, self._is_odd = 0, 0, False

    def _choose_measure(
        self, codec: str, stream: av.AudioStream
    ) -> tuple[Callable[[av.Packet], int], bool]:
        """What is read from each packet, and whether it is a duration that decides."""
        is_coarse = self._tick > 1
        if codec == "opus":
            return _opus_samples, False
        if codec in _FIXED:
            return _duration, False
        if codec == "vorbis" and is_coarse:
            self._blocks = _vorbis_blocks(stream)
            return _vorbis_block_number, False
        if codec == "flac" and is_coarse:
            return _flac_samples, False
        if is_coarse:
            raise DecodeWholeError(f"{codec} with timestamps of {self._time_base} s")
        return _duration, True

    def measure(
        self, packets: Iterable[av.Packet], kept: list[av.Packet] | None, tail: deque[av.Packet]
    ) -> _Measured:
        """Measure packets, and append them to `kept`, unless it is None, and to `tail`."""
        values, ticks, measure = list[int](), list[int | None](), self._measure
        for packet in packets:
            values.append(measure(packet))
            ticks.append(packet.pts)
            tail.append(packet)
            if kept is not None:
                kept.append(packet)
        return _Measured(values, ticks)

    def place(self, measured: _Measured) -> tuple[np.ndarray, np.ndarray]:
        """First sample and number of samples of each packet, int64 [packets]."""
        full = self._full_lengths(np.array(measured.values, np.int64))
        self.longest = max(self.longest, int(full.max()))
        lengths = full
        if self._num_skipped:
            lengths = np.diff(np.maximum(np.cumsum(full) - self._num_skipped, 0), prepend=0)
            self._num_skipped = max(0, self._num_skipped - int(full.sum()))
        if self._head:  # the first batch
            lengths = np.concatenate([self._head, lengths[len(self._head) :]])
            self._head = []
        starts = np.cumsum(lengths) - lengths
        if self.clock.is_present:
            ticks = np.array(measured.ticks, np.float64)  # NaN for None
            times = ticks * self._time_base + (full - lengths) / self.rate
            starts += self._silence(times, starts, lengths)
        else:
            self.clock.seconds += float(lengths.sum() / self.rate)
        starts += self._position
        self._position = int(starts[-1] + lengths[-1])
        return starts, lengths

    def _full_lengths(self, measured: np.ndarray) -> np.ndarray:
        """Samples of each packet before what the decoder drops at the ends."""
        if self._by_duration:
            return np.rint(measured * self._tick).astype(np.int64)
        if self._blocks:
            blocks = np.array(self._blocks)[measured]
            previous = np.concatenate([[self._last_block], blocks[:-1]])
            self._last_block = blocks[-1]
            return (blocks + previous) // 4
        if self._fixed:
            samples = measured * self._tick
            # Where no duration is known, it is 0. The very last packet may declare less.
            is_odd = np.abs(samples - self._fixed) > 1 + 1.5 * self._tick
            is_odd &= samples > 0
            if self._is_odd or is_odd[:-1].any():
                raise DecodeWholeError("the sample rate changes")
            self._is_odd = bool(is_odd[-1])
            return np.full(len(measured), self._fixed)
        return measured

    def _silence(self, times: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Samples of silence before each packet of a batch, those before earlier ones included."""
        clock, rate = self.clock, self.rate
        silence = np.zeros(len(lengths), np.int64)
        late = np.abs(times - clock.origin - clock.seconds - starts / rate)[lengths > 0]
        # Half of the tolerance leaves room for rounding.
        if not (late > TOLERANCE_SECONDS / 2).any():
            clock.seconds += float(lengths.sum() / rate)
            return silence
        for number in np.flatnonzero(lengths).tolist():
            time = None if np.isnan(times[number]) else float(times[number])
            silence[number] = round(clock.catch_up(clock.lateness(time)) * rate)
            clock.seconds += float(lengths[number] / rate)
        return np.cumsum(silence)

    def trims(self, tail: Iterable[av.Packet]) -> np.ndarray:
        """Samples that the decoder drops at the end of each of the last packets."""
        # A duration has been trimmed already.
        return np.array(
            [0 if self._by_duration else _skips(packet)[1] for packet in tail], np.int64
        )


def _duration(packet: av.Packet) -> int:
    return packet.duration or 0


def _opus_samples(packet: av.Packet) -> int:
    return _OPUS_SAMPLES[bytes(packet)[0]] or _many_opus_frames(packet)


def _many_opus_frames(packet: av.Packet) -> int:
    """Samples of a packet of Opus that gives its number of frames in its second byte."""
    content = bytes(packet)
    return (content[1] & 63) * _OPUS_FRAMES[content[0] >> 3] if len(content) > 1 else 0


def _vorbis_block_number(packet: av.Packet) -> int:
    """0 for a short and 1 for a long block, in streams of two modes, which encoders write."""
    return bytes(packet)[0] >> 1 & 1


def _vorbis_blocks(stream: av.AudioStream) -> tuple[int, int]:
    """Sizes of a short and of a long block, from the identification header."""
    header = stream.codec_context.extradata or b""
    start = header.find(b"\x01vorbis")
    if start < 0 or len(header) < start + 29:
        raise DecodeWholeError("no header of Vorbis")
    sizes = header[start + 28]
    return 1 << (sizes & 15), 1 << (sizes >> 4)


def _flac_samples(packet: av.Packet) -> int:
    return _flac_block_size(bytes(packet))


def _flac_block_size(content: bytes) -> int:
    """The block size in the header of a frame of FLAC (RFC 9639, 9.1)."""
    content = content[:16].ljust(16, b"\0")
    code = content[2] >> 4
    if code >= 8:
        return 256 << (code - 8)
    if code >= 6:
        # After the number of the frame, which is coded as in UTF-8.
        leading_ones = 8 - (content[4] ^ 0xFF).bit_length()
        place = 4 + max(1, leading_ones)
        return int.from_bytes(content[place : place + code - 5], "big") + 1
    return 192 if code == 1 else 576 << (code - 2) if code else 0


def _skips(packet: av.Packet) -> tuple[int, int]:
    """Samples that the decoder drops at the start and at the end, as the demuxer says."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    return struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))


def decode_run(run: Run, index: PacketIndex, context: av.AudioCodecContext) -> np.ndarray:
    """Decode a run of packets that are kept.

    Returns:
      The samples from `run.first` to before `run.last`: float32 [samples], mono; zeros where the
      medium has no sound.

    Raises:
      AudioError: samples that are no numbers.
      DecodeWholeError: a packet is bad, or gives anything else than predicted.
    """
    context.flush_buffers()
    fifo = av.AudioFifo()
    for number in range(run.fed, run.end):
        try:
            frames = decode_packet(context, index.packets[number])
        except AudioError as error:
            if number < run.begin:
                continue  # it may lack what came before
            raise DecodeWholeError(str(error)) from error
        if number < run.begin:
            continue
        if number < len(index.head):
            frames = index.head[number]
        num_samples = sum([frame.samples for frame in frames])
        if num_samples != index.lengths[number]:
            raise DecodeWholeError(f"packet {number} gives {num_samples} samples")
        for frame in frames:
            frame.pts = None  # the FIFO refuses timestamps with gaps
            try:
                fifo.write(frame)
            except ValueError as error:
                raise DecodeWholeError("the sound changes its format") from error
    samples = np.zeros(run.last - run.first, np.float32)
    if not fifo.samples:
        return samples
    rate, mono = average_channels(fifo.read())
    if rate != index.sample_rate:
        raise DecodeWholeError(f"a sample rate of {rate} Hz, after {index.sample_rate} Hz")
    starts, lengths = index.starts[run.begin : run.end], index.lengths[run.begin : run.end]
    # Packets that follow each other without a gap are copied together.
    breaks = np.flatnonzero(starts[1:] != starts[:-1] + lengths[:-1]) + 1
    offset = 0
    for piece in np.split(np.arange(len(starts)), breaks):
        length = int(lengths[piece].sum())
        at = int(starts[piece[0]]) - run.first
        begin, end = max(at, 0), min(at + length, len(samples))
        if begin < end:
            samples[begin:end] = mono[offset + begin - at : offset + end - at]
        offset += length
    return samples
