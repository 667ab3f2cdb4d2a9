"""What has been found since the paper, against its ResNet-50, at equal patches seen.

python -m evaluation.paper.modern --scale small --clips esc10/audio --output experiments
"""

from collections.abc import Sequence

from evaluation.paper import table
from evaluation.paper.table import Figures, Finding, Row, Table
from features.errors import run_command

_STEPS = 5_000_000
TABLE = Table(
    name="modern",
    title="Beyond the paper",
    statistics=True,
    rows=(
        Row("resnet50", "ResNet-50", _STEPS, Figures(0.916, 1.952, 0.182), 119),
        Row("modern", "ResNet-50, modern recipe", _STEPS, None),
    ),
    findings=(Finding("What has been found since helps", (("modern", "resnet50"),)),),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return table.main(TABLE, argv)


if __name__ == "__main__":
    run_command(main)
