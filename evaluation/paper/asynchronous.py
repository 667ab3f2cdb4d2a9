"""What asynchronous training changes: ResNet-50 by one worker or more, at equal patches seen.

python -m evaluation.paper.asynchronous --scale small --clips sounds --output experiments
"""

import functools

from evaluation.paper import table
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

# The paper trained on 10 to 40 GPUs, "asynchronously on multiple GPUs" (section 3.1). A mini-batch
# is a step, whichever worker does it.
_NUM_WORKERS = (1, 2, 4)
_ROWS = tuple(
    Row(
        "resnet50",
        f"{number} worker{'s' * (number > 1)}",
        name=f"resnet50_asynchronous_{number}",
        tuned_with="resnet50",
        num_workers=number,
    )
    for number in _NUM_WORKERS
)
TABLE = Table(
    name="asynchronous",
    title="Asynchronous training",
    rows=(Row("resnet50", "Synchronous"), *_ROWS),
    findings=(
        Finding(
            "Stale gradients cost performance",
            tuple((_ROWS[0].key, row.key) for row in _ROWS[1:]),
        ),
        # The gradients of a single worker are of the present weights.
        Finding(
            "A parameter server costs performance without staleness, too",
            (("resnet50", _ROWS[0].key),),
        ),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
