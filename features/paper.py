"""What the paper reports of each of its runs: the one place of its numbers.

"CNN Architectures for Large-Scale Audio Classification", Hershey et al., ICASSP 2017.
`training.describe` and the tables of `evaluation.paper` show these numbers beside ours.
"""

import dataclasses
from collections.abc import Mapping

_STEPS = 5_000_000  # section 4.1


@dataclasses.dataclass(frozen=True)
class Reported:
    """A run of the paper; None for what the paper does not report.

    Attributes:
      where: table and row, or section.
      auc, d_prime, map: means over classes; in Table 3, over the 400 most frequent labels.
      weights, multiplies: of the network (sections 3.3.1 to 3.3.5 and 4.2); multiplies of a patch.
      hours: of training.
      gpus, parameter_servers: that trained the network (sections 3.3.1 to 3.3.5).
      steps: mini-batches. Section 4.4 does not give them: those of Table 2.
    """

    where: str
    auc: float | None = None
    d_prime: float | None = None
    map: float | None = None
    weights: float | None = None
    multiplies: float | None = None
    hours: float | None = None
    gpus: int | None = None
    parameter_servers: int | None = None
    steps: int = _STEPS


_RESNET50 = (30e6, 1.9e9)
_RESNET50_CLUSTER = (20, 10)
_TABLE_4 = (*_RESNET50, 380, *_RESNET50_CLUSTER, 16_000_000)

# By recipe of training.train.
REPORTED: Mapping[str, Reported] = {
    "fully_connected": Reported("Table 2, row 1", 0.851, 1.471, 0.058, 11.2e6, 11.2e6, 35, 10, 5),
    "alexnet": Reported("Table 2, row 2", 0.894, 1.764, 0.115, 37.3e6, 767e6, 82, 20, 10),
    "vgg": Reported("Table 2, row 3", 0.911, 1.909, 0.161, 62e6, 2.4e9, 184, 10, 5),
    "vgg_reduced_strides": Reported("section 3.3.3"),  # "faster training" without
    "inception_v3": Reported("Table 2, row 4", 0.918, 1.969, 0.181, 28e6, 4.7e9, 137, 40, 20),
    "inception_v3_lean_stem": Reported("section 3.3.4", weights=28e6, multiplies=4.7e9),
    "inception_v3_whole_stem": Reported("section 3.3.4"),  # "performed worse"
    "resnet50": Reported(
        "Table 2, row 5", 0.916, 1.952, 0.182, *_RESNET50, 119, *_RESNET50_CLUSTER
    ),
    "resnet50_17m": Reported(
        "Table 2, row 6", 0.926, 2.041, 0.212, *_RESNET50, 356, *_RESNET50_CLUSTER, 17_000_000
    ),
    # "Would have taken several months to train" (section 4.2).
    "resnet50_30k": Reported("Table 3, row 1", weights=80e6),
    "resnet50_3k": Reported("Table 3, row 2", 0.930, 2.087, 0.381, *_RESNET50),
    "resnet50_400": Reported("Table 3, row 3", 0.928, 2.067, 0.376),
    "resnet50_bottleneck_30k": Reported("Table 3, row 4", 0.925, 2.035, 0.369),
    "resnet50_bottleneck_3k": Reported("Table 3, row 5", 0.919, 1.982, 0.347),
    "resnet50_bottleneck_400": Reported("Table 3, row 6", 0.924, 2.026, 0.365),
    "resnet50_70m_videos": Reported("Table 4, row 1", 0.923, 2.019, 0.206, *_TABLE_4),
    "resnet50_7m_videos": Reported("Table 4, row 2", 0.922, 2.006, 0.202, *_TABLE_4),
    "resnet50_700k_videos": Reported("Table 4, row 3", 0.921, 1.997, 0.203, *_TABLE_4),
    "resnet50_70k_videos": Reported("Table 4, row 4", 0.909, 1.883, 0.162, *_TABLE_4),
    "resnet50_23k_videos": Reported("Table 4, row 5", 0.868, 1.581, 0.118, *_TABLE_4),
    "audio_set_log_mel": Reported("section 4.4", 0.904, 1.846, 0.137),
    "audio_set_embeddings": Reported("section 4.4", 0.959, 2.452, 0.314),
}
