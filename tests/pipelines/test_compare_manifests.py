"""Manifests whose differences are known are compared through the command."""

from pathlib import Path

import pytest

from features.errors import InputError
from pipelines import compare_manifests

FIRST = """\
id,uri,labels,split,start,end
a,a.wav,Music;Piano,train,0,1800
b,b.wav,Music,train,30,40
c,c.wav,Speech,evaluation,,
d,d.wav,,train,,
"""
SECOND = """\
id,uri,labels
b,other.wav,Music
c,c.wav,Speech;Male speech
e,e.wav,Rain
"""


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Name of a line -> its two figures; later lines of one name have a number."""
    (tmp_path / "first.csv").write_text(FIRST)
    (tmp_path / "second.csv").write_text(SECOND)
    files = [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")]
    assert compare_manifests.main([*files, "--labels", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    assert max(map(len, lines)) <= 80
    found: dict[str, list[str]] = {}
    for line in lines:
        name = line[:48].strip()
        found[f"{name} again" if name in found else name] = line[48:].split()
    return found


def test_rows_videos_and_hours(table: dict[str, list[str]]) -> None:
    assert table["rows"] == ["4", "3"]
    assert table["that cannot be used"] == ["1", "0"]
    assert table["videos"] == ["3", "3"]
    assert table["in both"] == ["2", "2"]
    assert table["in this one only"] == ["1", "1"]
    assert table["in both, with other labels"] == ["1", "1"]
    assert table["in both, in another split"] == ["2", "2"]
    assert table["hours"] == ["0.50", "0.00"]
    assert table["of so many videos with an end"] == ["2", "0"]


def test_splits_and_labels(table: dict[str, list[str]]) -> None:
    assert table["train"] == ["2", "0"]
    assert table["evaluation"] == ["1", "0"]
    assert table["no split"] == ["0", "3"]
    assert table["labels"] == ["3", "4"]
    assert table["in this one only again"] == ["1", "2"]
    # Those that differ most come first.
    assert table["Male speech"] == ["0", "1"]
    assert table["Music"] == ["2", "1"]
    assert table["Piano"] == ["1", "0"]
    assert "Speech" not in table
    assert "and 2 labels whose counts differ less" in table


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        compare_manifests.main([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
