"""Table 4 of the paper: training set sizes.

python -m evaluation.paper.table4 --scale small --clips esc10/audio --output experiments
"""

import functools
import itertools

from evaluation.paper import table
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

_SIZES = ("70M", "7M", "700K", "70K", "23K")
_ROWS = tuple(Row(f"resnet50_{size.lower()}_videos", f"{size} videos") for size in _SIZES)
TABLE = Table(
    name="table4",
    title="Training set sizes",
    rows=_ROWS,
    findings=(
        Finding(
            "More videos help up to a point",
            tuple((more.key, fewer.key) for more, fewer in itertools.pairwise(_ROWS)),
        ),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
