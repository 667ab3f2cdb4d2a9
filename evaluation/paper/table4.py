"""Table 4 of the paper: training set sizes.

python -m evaluation.paper.table4 --scale small --clips esc10/audio --output experiments
"""

from collections.abc import Sequence

from evaluation.paper import table
from evaluation.paper.table import Figures, Finding, Row, Table
from features.errors import run_command

_STEPS = 16_000_000
_HOURS = 380


def _row(recipe: str, label: str, paper: Figures) -> Row:
    return Row(recipe, label, _STEPS, paper, _HOURS, network="resnet50")


TABLE = Table(
    name="table4",
    title="Training set sizes",
    rows=(
        _row("resnet50_70m_videos", "70M videos", Figures(0.923, 2.019, 0.206)),
        _row("resnet50_7m_videos", "7M videos", Figures(0.922, 2.006, 0.202)),
        _row("resnet50_700k_videos", "700K videos", Figures(0.921, 1.997, 0.203)),
        _row("resnet50_70k_videos", "70K videos", Figures(0.909, 1.883, 0.162)),
        _row("resnet50_23k_videos", "23K videos", Figures(0.868, 1.581, 0.118)),
    ),
    findings=(
        Finding(
            "More videos help up to a point",
            (
                ("resnet50_70m_videos", "resnet50_7m_videos"),
                ("resnet50_7m_videos", "resnet50_700k_videos"),
                ("resnet50_700k_videos", "resnet50_70k_videos"),
                ("resnet50_70k_videos", "resnet50_23k_videos"),
            ),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return table.main(TABLE, argv)


if __name__ == "__main__":
    run_command(main)
