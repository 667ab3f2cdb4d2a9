"""Checks of the installation: versions that fit together, fast checksums, working codecs."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runtime.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    import numpy as np

    from features.front_end.front_end import FrontEnd
    from features.front_end.params import LogMelParams
    from pipelines.corpus.encoding import MediaFormat

_ROOT = Path(__file__).parents[2]
INSTALL_AGAIN = "install into a new environment from requirements.lock"

_NUM_LISTED = 3
# google_crc32c checks thousands of megabytes a second in C, and 8 in Python.
_MIN_CHECKSUM_MB_PER_SECOND = 200.0
_CHECKSUM_BYTES, _CHECKSUM_SECONDS = 1 << 16, 0.05
_PROBE_SECONDS, _PROBE_HERTZ, _DECODE_LIMIT_SECONDS = 1.0, 1000.0, 20.0


def versions() -> Finding:
    """Check with `pip check` that every installed package has the packages that it requires."""
    name = "versions"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ok(name, "`pip check` found no conflict")
    if not done.stdout:  # pip itself does not run
        return warning(
            name,
            f"not checked: {done.stderr.strip().splitlines()[-1]}",
            "`python -m ensurepip` installs pip",
        )
    conflicts = done.stdout.strip().splitlines()
    more = f" and {len(conflicts) - _NUM_LISTED} more" if len(conflicts) > _NUM_LISTED else ""
    return problem(name, " ".join(conflicts[:_NUM_LISTED]) + more, INSTALL_AGAIN)


def lock(environment: Path = Path(sys.prefix), folder: Path = _ROOT) -> Finding:
    """Compare what `make` installed an environment from with the lock that is here now.

    Args:
      environment: with the stamp of the Makefile.
      folder: of the lock.
    """
    name = "lock"
    stamp, path = environment / ".installed", folder / "requirements.lock"
    if not (stamp.exists() and path.exists()):
        return ok(name, "not compared: `make` did not install this environment")
    with path.open("rb") as file:
        checksum = subprocess.run(["cksum"], stdin=file, capture_output=True, text=True, check=True)
    if checksum.stdout in stamp.read_text():
        return ok(name, f"{environment} was installed from {path}")
    return warning(
        name,
        f"{environment} was installed from another version of {path}",
        "`make test` or `make demo`, which install again",
    )


def checksums() -> Finding:
    """Check that the checksums of TFRecords are computed in C."""
    import google_crc32c

    name = "checksums"
    block, count, start = bytes(_CHECKSUM_BYTES), 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _CHECKSUM_SECONDS:
        google_crc32c.value(block)
        count += 1
    speed = count * len(block) / seconds / 1e6
    found = f"google_crc32c in {google_crc32c.implementation}, {speed:,.0f} MB/s"
    if google_crc32c.implementation != "c":
        return problem(
            name,
            f"{found}: extraction would take twice the CPU",
            "`python -m pip install --force-reinstall --only-binary :all: google-crc32c`, on a "
            "platform for which it has a wheel",
        )
    if speed < _MIN_CHECKSUM_MB_PER_SECOND:
        return warning(
            name,
            f"{found}; at least {_MIN_CHECKSUM_MB_PER_SECOND:g} was expected",
            "see whether the machine is busy; jobs will be as slow",
        )
    return ok(name, found)


def codecs(formats: "Sequence[MediaFormat] | None" = None) -> Finding:
    """Check that the decoder process decodes a second of a tone in every format.

    Args:
      formats: to check; None for those of the demo corpus.
    """
    import av.error

    from features.front_end.front_end import FrontEnd
    from features.sound.outcome import AudioError
    from features.sound.waveform import RESAMPLER
    from pipelines.corpus import encoding

    name = "codecs"
    front_end = FrontEnd(resampler=RESAMPLER)
    expected = _expected_band(front_end.log_mel)
    decoded, unchecked, failed = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in encoding.FORMATS if formats is None else formats:
            title = f"{kind.suffix[1:]}/{kind.codec}"
            path = Path(folder, f"probe{kind.suffix}")
            try:
                _write_tone(path, kind)
            except (av.error.FFmpegError, ValueError) as error:  # no such encoder or muxer
                unchecked.append(f"{title} ({error})")
                continue
            try:
                found_band = _decoded_band(path, front_end)
                if found_band == expected:
                    decoded.append(title)
                else:
                    failed.append(f"{title} (tone in mel band {found_band}, not {expected})")
            except AudioError as error:
                failed.append(f"{title} ({error.outcome}: {error.detail})")
    reinstall = "`python -m pip install --force-reinstall av`: the wheel on PyPI has all codecs"
    if failed:
        return problem(name, f"not decoded: {', '.join(failed)}", reinstall)
    found = f"decoded: {', '.join(decoded)}"
    if unchecked:
        return warning(
            name,
            f"{found}; not checked, because there is no encoder: {', '.join(unchecked)}",
            f"extract features of such a file as a test; or {reinstall}",
        )
    return ok(name, found)


def _tone(sample_rate: int) -> "np.ndarray":
    """A second of a sine, float32 [samples]."""
    import numpy as np

    time_seconds = np.arange(int(_PROBE_SECONDS * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * _PROBE_HERTZ * time_seconds)).astype(np.float32)


def _write_tone(path: Path, kind: "MediaFormat") -> None:
    from pipelines.corpus.encoding import write_media

    samples = _tone(kind.sample_rate)[:, None].repeat(kind.num_channels, axis=1)
    write_media(path, samples, sample_rate=kind.sample_rate, codec=kind.codec, video=kind.video)


def _expected_band(params: "LogMelParams") -> int:
    """The mel band of the tone, computed without a file."""
    from features.front_end.logmel import log_mel_patches

    return int(log_mel_patches(_tone(params.sample_rate_hz), params).mean(axis=(0, 1)).argmax())


def _decoded_band(path: Path, front_end: "FrontEnd") -> int:
    """The loudest mel band of a file, decoded as workers decode."""
    import numpy as np

    from pipelines.runtime.decoder import decoder_process
    from pipelines.runtime.spool import PatchSpool

    with decoder_process() as child, PatchSpool(front_end.patch_bytes) as spool:
        list(child.decode(str(path), front_end, spool, timeout_seconds=_DECODE_LIMIT_SECONDS))
        patch = np.frombuffer(spool.read(0), front_end.storage.dtype)
    return int(patch.reshape(front_end.log_mel.patch_shape).mean(axis=0, dtype=float).argmax())
