"""Table 3 of the paper: label sets, with and without a bottleneck of 128 units.

python -m evaluation.paper.table3 --scale small --clips sounds --output experiments
"""

import functools

from evaluation.paper import table
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

TABLE = Table(
    name="table3",
    title="Label sets",
    few_labels=True,
    figure_row="resnet50_bottleneck_30k",
    rows=(
        Row("resnet50_30k", "30K"),
        Row("resnet50_3k", "3K"),
        Row("resnet50_400", "400"),
        Row("resnet50_bottleneck_30k", "30K, bottleneck"),
        Row("resnet50_bottleneck_3k", "3K, bottleneck"),
        Row("resnet50_bottleneck_400", "400, bottleneck"),
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
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
