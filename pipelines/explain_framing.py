"""Explains how much of a waveform becomes frames and patches, and what is dropped at its end.

python -m pipelines.explain_framing 48000 160000
python -m pipelines.explain_framing --seconds 0.975 60
"""

import argparse
import math
from collections.abc import Sequence

from features.errors import OK, InputError, run_command
from features.front_end.params import LogMelParams

# Of more patches than these, only the first ones and the last are shown.
_SHOWN_PATCHES = 5


def _parser() -> argparse.ArgumentParser:
    rate = LogMelParams().sample_rate_hz
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.explain_framing",
        description=f"Say which samples of a soundtrack at {rate} Hz each frame and patch covers,\n"
        "and how many samples at the end are in none.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "lengths", nargs="+", metavar="N", help="length of a soundtrack, in samples"
    )
    parser.add_argument("--seconds", action="store_true", help="N is in seconds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, params = _parser().parse_args(argv), LogMelParams()
    lengths = [_num_samples(text, params, seconds=args.seconds) for text in args.lengths]
    print("\n\n".join(explain(num_samples, params) for num_samples in lengths))
    return OK


def _num_samples(text: str, params: LogMelParams, *, seconds: bool) -> int:
    what = "seconds" if seconds else "whole number of samples (or give --seconds)"
    try:
        samples = float(text) * params.sample_rate_hz if seconds else int(text)
    except ValueError:
        samples = -1
    if not (math.isfinite(samples) and samples >= 0):
        raise InputError(f"received {text!r}; expected a {what}, 0 or more")
    return round(samples)


def explain(num_samples: int, params: LogMelParams) -> str:
    """The frames and patches of a waveform of so many samples, in lines of 80 columns."""
    num_frames, num_patches = params.num_frames(num_samples), params.num_patches(num_samples)
    patch_samples = (params.patch_frames - 1) * params.hop_samples + params.window_samples
    frames_end = _end(num_frames, params.hop_samples, params.window_samples)
    patches_end = _end(num_patches, params.patch_hop_frames * params.hop_samples, patch_samples)
    used_frames = _end(num_patches, params.patch_hop_frames, params.patch_frames)
    rate = params.sample_rate_hz
    lines = [
        f"{num_samples} samples = {num_samples / rate:.4f} s at {rate} Hz",
        f"  frames   {num_frames}, of {params.window_samples} samples, one every "
        f"{params.hop_samples}; {num_samples - frames_end} samples are in none",
        f"  patches  {num_patches}, of {params.patch_frames} frames, one every "
        f"{params.patch_hop_frames}; {num_frames - used_frames} frames are in none",
        f"  dropped  the last {num_samples - patches_end} samples = "
        f"{(num_samples - patches_end) / rate:.4f} s are in no patch",
    ]
    if not num_patches:
        lines.append(f"  too short: one patch takes {patch_samples} samples")
        return "\n".join(lines)
    lines.append(f"  {'patch':>6}  {'frames':>17}  {'samples':>21}  {'seconds':>21}")
    shown: list[int | None] = list(range(num_patches))
    if num_patches > _SHOWN_PATCHES:
        shown[_SHOWN_PATCHES - 2 : -1] = [None]
    for patch in shown:
        if patch is None:
            lines.append(f"  {'...':>6}")
            continue
        frame = patch * params.patch_hop_frames
        sample = frame * params.hop_samples
        end = sample + patch_samples
        lines.append(
            f"  {patch:>6}  {f'{frame} to {frame + params.patch_frames - 1}':>17}  "
            f"{f'{sample} to {end - 1}':>21}  {f'{sample / rate:.3f} to {end / rate:.3f}':>21}"
        )
    return "\n".join(lines)


def _end(count: int, hop: int, length: int) -> int:
    """Where the last of `count` windows ends."""
    return (count - 1) * hop + length if count else 0


if __name__ == "__main__":
    run_command(main)
