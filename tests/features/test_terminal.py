"""What is printed while a command works, and at its end."""

import pytest

from features.terminal import duration, report


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.6, "1 min 00 s"), (7, "7 s"), (3_725, "1 h 02 min"), (359_940, "99 h 59 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_report_names_counts_rejects_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    report("3 videos = 1 written + 2 rejected", {"corrupt": 1, "not_found": 1}, "features")

    assert capsys.readouterr().out.splitlines() == [
        "3 videos = 1 written + 2 rejected",
        "  rejected: 1 corrupt",
        "  rejected: 1 not_found",
        "wrote features",
    ]
