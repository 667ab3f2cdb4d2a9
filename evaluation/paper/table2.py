"""Table 2 of the paper: architectures.

python -m evaluation.paper.table2 --scale small --clips sounds --output experiments
"""

import functools

from evaluation.paper import table
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

_CNNS = ("alexnet", "vgg", "inception_v3", "resnet50")
TABLE = Table(
    name="table2",
    title="Architectures",
    rows=(
        Row("fully_connected", "Fully connected"),
        Row("alexnet", "AlexNet"),
        Row("vgg", "VGG"),
        Row("inception_v3", "Inception V3"),
        Row("resnet50", "ResNet-50"),
        Row("resnet50_17m", "ResNet-50, longer"),
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
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
