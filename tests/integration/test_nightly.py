"""Three nights of a corpus that changes, with a kill, against a clean run over the last manifest.

`python -m tests.benchmarks.nightly` has thirty nights, and emulated stores.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from features.contracts import folders
from features.contracts.documents import Features
from tests import nightly


def run(module: str, flags: Sequence[str]) -> None:
    assert importlib.import_module(module).main(flags) == 0


def test_three_nights_leave_what_a_clean_run_writes(tmp_path: Path) -> None:
    place = nightly.on_disk(tmp_path)
    corpus = nightly.Corpus(place, num_videos=10)
    night = nightly.commands(corpus, f"{tmp_path}/nights")
    nightly.run_night(night, run)
    corpus.change()
    nightly.run_night(night, run, kill="extract")
    assert nightly.temporary_names(place.objects())
    corpus.change()
    nightly.run_night(night, run)
    nightly.run_night(nightly.commands(corpus, f"{tmp_path}/clean"), run)

    found = nightly.contents(place, "nights")
    assert found == nightly.contents(place, "clean")
    assert len([name for name in found if name.endswith(".tfrecord")]) > 3
    features = folders.read_document(f"{tmp_path}/nights/features", Features)
    assert features.rejects == {"corrupt": 1, "not_found": 1}
    assert not nightly.temporary_names(place.objects())
