"""Table 1 of known priors."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation.paper import table1
from features.contracts.labels import FILE_NAME, Vocabulary
from features.errors import InputError

DATASET = Path(__file__).parents[2] / "features/contracts/documents/dataset.json"


def test_labels_are_in_the_decade_of_their_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    priors = {"Any": 1.0, "Music": 0.2, "Song": 0.1, "Car": 0.0999, "Dog": 0.001, "Ollie|": 1e-6}
    priors |= {"Unheard": 0.0}
    counts = np.array([round(prior * 10_000_000) for prior in priors.values()])
    ids = tuple(f"/m/{label}" for label in priors)
    vocabulary = Vocabulary(ids, tuple(priors), counts, 10_000_000)
    (tmp_path / FILE_NAME).write_bytes(vocabulary.to_bytes())
    shutil.copy(DATASET, tmp_path)

    assert table1.main(["--dataset", str(tmp_path), "--examples", "2"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "| Label prior | Labels | Example labels |",
        "|---|---|---|",
        "| 0.1 ... 1 | 3 | Any, Music |",
        "| 0.01 ... 0.1 | 1 | Car |",
        "| 0.001 ... 0.01 | 1 | Dog |",
        "| 1e-06 ... 1e-05 | 1 | Ollie&#124; |",
        "| 0 | 1 | Unheard |",
    ]


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        table1.main(["--dataset", str(tmp_path)])
