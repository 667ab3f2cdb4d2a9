"""Table 4 of the paper: training set sizes, and the same with few recordings.

python -m evaluation.paper.table4 --scale small --clips sounds --output experiments
"""

import functools
import itertools

from evaluation.paper import table
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

_SIZES = ("70M", "7M", "700K", "70K", "23K")
_ROWS = tuple(Row(f"resnet50_{size.lower()}_videos", f"{size} videos") for size in _SIZES)
# Soundtracks of a corpus differ less than videos, since they are mixed of the same recordings. Of
# few recordings there are as many soundtracks: what more soundtracks and more recordings give is
# told apart. The first, the middle and the last size.
_WITH_FEW = _ROWS[::2]
_FEW = tuple(
    Row(row.recipe, f"{row.label}, few recordings", name=f"{row.recipe}_few", few_recordings=True)
    for row in _WITH_FEW
)
TABLE = Table(
    name="table4",
    title="Training set sizes",
    rows=(*_ROWS, *_FEW),
    findings=(
        Finding(
            "More videos help up to a point",
            tuple((more.key, fewer.key) for more, fewer in itertools.pairwise(_ROWS)),
        ),
        Finding(
            "More videos of few recordings help up to a point",
            tuple((more.key, fewer.key) for more, fewer in itertools.pairwise(_FEW)),
        ),
        Finding(
            "More recordings help in as many videos",
            tuple((row.key, few.key) for row, few in zip(_WITH_FEW, _FEW, strict=True)),
        ),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
