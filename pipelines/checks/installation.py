"""Whether the packages that are imported are ours, of versions that go together, and fast."""

import collections
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runtime.finding import (
    Finding,
    ok,
    problem,
    warning,
)

if TYPE_CHECKING:
    import numpy as np

    from features.front_end.front_end import FrontEnd
    from features.front_end.params import LogMelParams
    from pipelines.corpus.encoding import MediaFormat

OUR_DISTRIBUTION = "soundtrack-classification"
OUR_PACKAGES = ("features", "pipelines", "training", "evaluation")
INSTALL_AGAIN = "install again into a new environment, from requirements.lock"

_SHOWN = 3
# google_crc32c in C does thousands of megabytes a second, in Python 8.
_MIN_CHECKSUM_MB_PER_SECOND = 200.0
_CHECKSUM_BYTES, _CHECKSUM_SECONDS = 1 << 16, 0.05
_PROBE_SECONDS, _PROBE_HERTZ, _DECODE_LIMIT_SECONDS = 1.0, 1000.0, 20.0


def import_names(root: Path = Path(__file__).parents[2]) -> Finding:
    """Whether our import names, which are general words, lead to the code in `root`."""
    name = "import names"
    for package in OUR_PACKAGES:
        spec = util.find_spec(package)
        places = list(spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        if places != [str(root / package)]:
            return problem(
                name,
                f"`import {package}` finds {', '.join(places) or 'nothing'} instead of "
                f"{root / package}",
                f"remove its folder from PYTHONPATH (sys.path), or put {root} before it",
            )
    owners = metadata.packages_distributions()
    others = {
        package: sorted(set(owners.get(package, ())) - {OUR_DISTRIBUTION})
        for package in OUR_PACKAGES
    }
    claims = [f"{', '.join(names)} has {package}" for package, names in others.items() if names]
    if claims:
        return problem(
            name,
            f"another distribution installs a package of the same name: {'; '.join(claims)}",
            f"`python -m pip uninstall {next(names[0] for names in others.values() if names)}`, or "
            "keep it in an environment of its own",
        )
    return ok(name, f"{', '.join(OUR_PACKAGES)} are those in {root}")


def versions(distribution: str = OUR_DISTRIBUTION) -> Finding:
    """Whether all that a distribution requires, directly or not, is there in a fitting version."""
    name = "versions"
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return problem(
            name,
            f"{distribution} is not installed here ({sys.executable})",
            "`make test` makes .venv; elsewhere `pip install -r requirements.lock`, then "
            "`pip install --no-deps --editable .`",
        )
    needed: set[str] = set()
    clashes = [*_clashes(distribution, needed), *_doubles(needed)]
    if clashes:
        more = f"; and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        return problem(name, "; ".join(clashes[:_SHOWN]) + more, INSTALL_AGAIN)
    shown = ("apache-beam", "av", "numpy", "protobuf", "tensorflow", "tensorflow-transform")
    found = ", ".join(f"{one} {metadata.version(one)}" for one in shown if one in needed)
    return ok(name, f"{len(needed)} distributions fit together: {found}")


def _clashes(distribution: str, needed: set[str]) -> Iterator[str]:
    """What is missing or does not fit; collects in `needed` the names of all that is required."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()  # a distribution and one of its extras, or ""
    waiting = [(distribution, "")]
    while waiting:
        owner, owner_extra = waiting.pop()
        for text in metadata.requires(owner) or ():
            required = Requirement(text)
            if required.marker and not required.marker.evaluate({"extra": owner_extra}):
                continue
            one = canonicalize_name(required.name)
            try:
                version = metadata.version(one)
            except metadata.PackageNotFoundError:
                yield f"{owner} needs {one}{required.specifier}, which is not installed"
                continue
            if not required.specifier.contains(version, prereleases=True):
                yield f"{owner} needs {one}{required.specifier} and {version} is installed"
            needed.add(one)
            new = {(one, extra) for extra in ("", *required.extras)} - seen
            seen |= new
            waiting.extend(new)


def _doubles(needed: set[str]) -> Iterator[str]:
    """Which distributions sys.path has in several versions: code and description may differ."""
    from packaging.utils import canonicalize_name

    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for one in metadata.distributions():
        found[canonicalize_name(one.name)][one.version] = str(one.locate_file(""))
    for name in sorted(needed):
        if len(found[name]) > 1:
            places = ", ".join(f"{version} in {place}" for version, place in found[name].items())
            yield f"{name} is there more than once: {places}"


def checksums() -> Finding:
    """Whether the checksums of TFRecords are computed in C."""
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
            "see whether the machine is busy; expect jobs to be as slow",
        )
    return ok(name, found)


def codecs(formats: "Sequence[MediaFormat] | None" = None) -> Finding:
    """Whether a second of a tone in every format comes back from the decoder's child process."""
    import av.error

    from features.front_end.front_end import FrontEnd
    from features.sound.outcome import AudioError
    from features.sound.waveform import RESAMPLER
    from pipelines.corpus import encoding

    name = "codecs"
    front_end = FrontEnd(resampler=RESAMPLER)
    played = _played_band(front_end.log_mel)
    decoded, untried, failed = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in encoding.FORMATS if formats is None else formats:
            title = f"{kind.suffix[1:]}/{kind.codec}"
            path = Path(folder, f"probe{kind.suffix}")
            try:
                _write_tone(path, kind)
            except (av.error.FFmpegError, ValueError) as error:  # no such encoder or muxer
                untried.append(f"{title} ({error})")
                continue
            try:
                heard = _heard_band(path, front_end)
                if heard == played:
                    decoded.append(title)
                else:
                    failed.append(f"{title} (the tone is in mel band {heard}, not {played})")
            except AudioError as error:
                failed.append(f"{title} ({error.outcome}: {error.detail})")
    reinstall = "`python -m pip install --force-reinstall av`, its wheel from PyPI has them all"
    if failed:
        return problem(name, f"not decoded: {', '.join(failed)}", reinstall)
    found = f"decoded: {', '.join(decoded)}"
    if untried:
        return warning(
            name,
            f"{found}; not tried, for want of an encoder: {', '.join(untried)}",
            f"try a file of your own with pipelines.explain_framing; or {reinstall}",
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


def _played_band(params: "LogMelParams") -> int:
    """The mel band in which the tone is, without any file."""
    from features.front_end.logmel import log_mel_patches

    return int(log_mel_patches(_tone(params.sample_rate_hz), params).mean(axis=(0, 1)).argmax())


def _heard_band(path: Path, front_end: "FrontEnd") -> int:
    """The loudest mel band of a file, decoded the way a worker does."""
    import numpy as np

    from pipelines.runtime.decoder import decoder_process
    from pipelines.runtime.spool import PatchSpool

    with decoder_process() as child, PatchSpool(front_end.patch_bytes) as spool:
        list(child.decode(str(path), front_end, spool, timeout_seconds=_DECODE_LIMIT_SECONDS))
        patch = np.frombuffer(spool.read(0), front_end.storage.dtype)
    return int(patch.reshape(front_end.log_mel.patch_shape).mean(axis=0, dtype=float).argmax())
