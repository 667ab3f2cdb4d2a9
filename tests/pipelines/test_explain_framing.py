"""What the command says against counting by hand."""

import re

import numpy as np
import pytest

from features.errors import InputError
from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from pipelines import explain_framing

PARAMS = LogMelParams()


@pytest.mark.parametrize(
    "num_samples", [0, 399, 400, 15_599, 15_600, 30_959, 30_960, 48_000, 99_999]
)
def test_counts_are_those_of_the_front_end(
    num_samples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain_framing.main([str(num_samples)]) == 0

    text = capsys.readouterr().out
    patches = log_mel_patches(np.zeros(num_samples), PARAMS)
    starts = range(0, num_samples - 399, 160)
    assert f"patches  {len(patches)}, of 96 frames" in text
    assert f"frames   {len(starts)}, of 400 samples" in text
    covered = 15_360 * (len(patches) - 1) + 15_600 if len(patches) else 0
    assert f"the last {num_samples - covered} samples" in text
    assert ("too short" in text) == (len(patches) == 0)


def test_a_patch_depends_on_the_samples_named_and_on_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    explain_framing.main(["48000"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["1"]]
    first, last = map(int, re.findall(r"(\d+) to (\d+)", line)[1])

    rng = np.random.default_rng(1)
    waveform = rng.normal(0, 0.1, 48_000)
    original = log_mel_patches(waveform, PARAMS)[1]
    # The Hann window is zero at its first sample, and only there.
    for changed, same in ((first - 1, True), (first + 1, False), (last, False), (last + 1, True)):
        other = waveform.copy()
        other[changed] += 10
        assert np.array_equal(log_mel_patches(other, PARAMS)[1], original) == same


def test_seconds_and_width(capsys: pytest.CaptureFixture[str]) -> None:
    explain_framing.main(["--seconds", "0.975", "62500"])

    text = capsys.readouterr().out
    assert "15600 samples = 0.9750 s at 16000 Hz" in text
    assert "1000000000 samples" in text
    assert "..." in text
    assert max(map(len, text.splitlines())) <= 80
    # The last line is the last patch.
    assert text.splitlines()[-1].split()[0] == str(PARAMS.num_patches(1_000_000_000) - 1)


@pytest.mark.parametrize("flags", [["2.5"], ["ten"], ["--seconds", "nan"], ["--seconds", "inf"]])
def test_refused(flags: list[str]) -> None:
    with pytest.raises(InputError, match=r"received '.*'; expected a"):
        explain_framing.main(flags)
