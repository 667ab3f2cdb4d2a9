"""Table 2 of the paper: architectures.

python -m evaluation.paper.table2 --scale small --clips esc10/audio --output experiments
"""

from collections.abc import Sequence

from evaluation.paper import table
from evaluation.paper.table import Figures, Finding, Row, Table
from features.errors import run_command

_STEPS = 5_000_000
_CNNS = ("alexnet", "vgg", "inception_v3", "resnet50")
TABLE = Table(
    name="table2",
    title="Architectures",
    rows=(
        Row("fully_connected", "Fully connected", _STEPS, Figures(0.851, 1.471, 0.058), 35),
        Row("alexnet", "AlexNet", _STEPS, Figures(0.894, 1.764, 0.115), 82),
        Row("vgg", "VGG", _STEPS, Figures(0.911, 1.909, 0.161), 184),
        Row("inception_v3", "Inception V3", _STEPS, Figures(0.918, 1.969, 0.181), 137),
        Row("resnet50", "ResNet-50", _STEPS, Figures(0.916, 1.952, 0.182), 119),
        Row(
            "resnet50_17m",
            "ResNet-50, longer",
            17_000_000,
            Figures(0.926, 2.041, 0.212),
            356,
            network="resnet50",
        ),
    ),
    findings=(
        Finding(
            "Convolutional networks beat the fully connected one",
            tuple((cnn, "fully_connected") for cnn in _CNNS),
        ),
        Finding(
            "Inception and ResNet beat the earlier ones",
            tuple(
                (late, early)
                for late in ("inception_v3", "resnet50")
                for early in ("alexnet", "vgg")
            ),
        ),
        Finding(
            "Longer training, with a cut of the learning rate, helps",
            (("resnet50_17m", "resnet50"),),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return table.main(TABLE, argv)


if __name__ == "__main__":
    run_command(main)
