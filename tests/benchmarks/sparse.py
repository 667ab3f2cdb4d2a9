"""CPU time of a few patches of a soundtrack, against all patches and against a bound.

A soundtrack of 4.6 minutes has 287 patches. Nine are drawn, which is what 5M mini-batches of 128
see of a video of the paper. The bound is a bare PyAV loop that demuxes the soundtrack, and one and
a half times the share 9 / 287 of the CPU time of all patches: a patch overlaps packets that it does
not fill, and a decoder has to see packets before it. `KIND_over_bound` is the ratio.

The patches have to equal those of the whole soundtrack, within 0.003 in log-mel before storage.

    python -m tests.benchmarks.sparse --quick
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.stream import Discard

from features.front_end.front_end import FrontEnd, PatchStorage
from features.sound.soundtrack import PatchSample, soundtrack_patches
from features.sound.waveform import RESAMPLER
from pipelines.corpus import encoding
from pipelines.runtime.decoder import MEMORY_SETTINGS
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)
from tests.benchmarks.soundtracks import Kind, write_soundtrack

KINDS = {
    "mp4_aac": Kind("mp4/AAC", ".mp4", "aac", 44_100, video=True),
    "webm_opus": Kind("webm/Opus", ".webm", "libopus", 48_000, video=True),
    "ogg_vorbis": Kind("ogg/Vorbis", ".ogg", "vorbis", 44_100),
    "ogg_opus": Kind("ogg/Opus", ".ogg", "libopus", 48_000),
    "mp3": Kind("mp3", ".mp3", "libmp3lame", 44_100),
}
SECONDS, BASE_SECONDS = 276.0, 13.8
NUM_DRAWN, NUM_PATCHES = 9, 287
SHARE_OF_DENSE = 1.5
MAX_DIFFERENCE = 0.003


class Unrounded(PatchStorage):
    """Stores float32 log-mel as it is."""

    def encode(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel


FRONT_END = FrontEnd(resampler=RESAMPLER)
PRECISE = FrontEnd(resampler=RESAMPLER, storage=Unrounded())


def write(media: Path, kind: Kind) -> None:
    """Write the soundtrack, of AAC without the noise that decoders draw packet after packet."""
    encoding.ENCODER_OPTIONS["aac_pns"] = "0"
    write_soundtrack(media, kind, minutes=SECONDS / 60, base_seconds=BASE_SECONDS)


def demux(media: Path, times: int) -> None:
    """Read all packets of the soundtrack with PyAV several times, and decode nothing."""
    for _ in range(times):
        with av.open(str(media)) as container:
            stream = container.streams.audio[0]
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            for _ in container.demux(stream):
                pass


def extract(media: Path, samples: Sequence[PatchSample | None]) -> None:
    """Extract the patches of the soundtrack once for each sample."""
    for sample in samples:
        for _ in soundtrack_patches(str(media), FRONT_END, sample=sample):
            pass


def compare(media: Path, samples: Sequence[PatchSample]) -> tuple[int, float]:
    """Number of all patches, and the maximum difference of the drawn ones."""
    dense = np.concatenate([chunk.patches for chunk in soundtrack_patches(str(media), PRECISE)])
    differences = []
    for sample in samples:
        (chunk,) = soundtrack_patches(str(media), PRECISE, sample=sample)
        assert chunk.indices.tolist() == sample.draw(len(dense)).tolist()
        differences.append(float(np.abs(chunk.patches - dense[chunk.indices]).max()))
    return len(dense), max(differences)


def measure(media: Path, lane: Lane, num_rounds: int, times: int) -> dict[str, float]:
    """CPU seconds of a soundtrack, and their ratios."""
    samples = [PatchSample(NUM_DRAWN, seed) for seed in range(times)]
    _, (num_patches, max_difference) = lane(compare, media, samples)
    assert abs(num_patches - NUM_PATCHES) <= 1, num_patches
    rounds = []
    for _ in range(num_rounds):
        cpu = {
            "demux": lane(demux, media, times)[0] / times,
            "dense": lane(extract, media, [None])[0],
            "sparse": lane(extract, media, samples)[0] / times,
        }
        bound = cpu["demux"] + SHARE_OF_DENSE * NUM_DRAWN / num_patches * cpu["dense"]
        cpu["over_bound"] = cpu["sparse"] / bound
        cpu["over_dense"] = cpu["sparse"] / cpu["dense"]
        require_possible("dense over demuxing", cpu["dense"] / cpu["demux"], at_least=1)
        rounds.append(cpu)
    return median_of(rounds) | {"max_difference": max_difference}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_rounds, times = (2, 5) if is_quick(__doc__, argv) else (7, 20)
    results = {}
    with tempfile.TemporaryDirectory() as folder, Lane() as writing, Lane(MEMORY_SETTINGS) as lane:
        for name, kind in KINDS.items():
            media = Path(folder, f"{name}{kind.suffix}")
            writing(write, media, kind)
            results[name] = measure(media, lane, num_rounds, times)
    columns = ["demux", "sparse", "dense", "over_bound", "over_dense", "max_difference"]
    rows = [[KINDS[name].name, *map(result.get, columns)] for name, result in results.items()]
    header = ["CPU s", *(column.replace("_", " ") for column in columns)]
    max_difference = max(result["max_difference"] for result in results.values())
    report(
        {
            f"{name}_{key}": result[key]
            for name, result in results.items()
            for key in ("over_bound", "over_dense", "max_difference")
        }
        | {"max_difference": max_difference},
        {"kinds": make_table(header, rows)},
    )
    assert max_difference <= MAX_DIFFERENCE, max_difference
    return 0


if __name__ == "__main__":
    sys.exit(main())
