"""Table 3 of the paper: label sets, with and without a bottleneck of 128 units.

python -m evaluation.paper.table3 --scale small --clips esc10/audio --output experiments
"""

from collections.abc import Sequence

from evaluation.paper import table
from evaluation.paper.table import Figures, Finding, Row, Table
from features.errors import run_command

_STEPS = 5_000_000
TABLE = Table(
    name="table3",
    title="Label sets",
    few_labels=True,
    rows=(
        # "Would have taken several months to train" (section 4.2).
        Row("resnet50_30k", "30K", _STEPS, None),
        Row("resnet50_3k", "3K", _STEPS, Figures(0.930, 2.087, 0.381)),
        Row("resnet50_400", "400", _STEPS, Figures(0.928, 2.067, 0.376)),
        Row(
            "resnet50_bottleneck_30k",
            "30K, bottleneck",
            _STEPS,
            Figures(0.925, 2.035, 0.369),
        ),
        Row("resnet50_bottleneck_3k", "3K, bottleneck", _STEPS, Figures(0.919, 1.982, 0.347)),
        Row(
            "resnet50_bottleneck_400",
            "400, bottleneck",
            _STEPS,
            Figures(0.924, 2.026, 0.365),
        ),
    ),
    findings=(
        Finding(
            "A broader set of labels helps",
            (
                ("resnet50_30k", "resnet50_400"),
                ("resnet50_3k", "resnet50_400"),
                ("resnet50_bottleneck_30k", "resnet50_bottleneck_3k"),
                ("resnet50_bottleneck_30k", "resnet50_bottleneck_400"),
            ),
        ),
        Finding(
            "A bottleneck costs performance",
            (
                ("resnet50_3k", "resnet50_bottleneck_3k"),
                ("resnet50_400", "resnet50_bottleneck_400"),
            ),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return table.main(TABLE, argv)


if __name__ == "__main__":
    run_command(main)
