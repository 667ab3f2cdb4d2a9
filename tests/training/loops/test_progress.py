import sys

import pytest

from training.loops.progress import ProgressLine
from training.loops.validation import ValidationMetrics


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_run_fits_on_a_line(
    terminal: bool, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    line = ProgressLine(17_000_000, 128)
    line.step_done()
    assert line.patches_per_second == 0  # the first step builds the graph
    line.step_done()
    assert line.patches_per_second > 0
    line._seconds = 0.5  # 256 patches a second
    line.show(16_000_000, 0.000123, ValidationMetrics(0.01, 0.3, 0.2123, 100, 10))
    line.close()
    text = capsys.readouterr().err
    assert len(text.strip("\r\n")) < 80
    assert "step 16000000/17000000  loss 0.00012  256 patches/s  mAP 0.212  5 days left" in text
    assert text.startswith("\r") == terminal
    assert text.endswith("\n")
