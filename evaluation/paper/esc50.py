"""ESC-50 in four folds: networks from scratch, and classifiers of YAMNet's embeddings.

python -m evaluation.paper.esc50 --scale small --clips sounds --network yamnet --output experiments
"""

import dataclasses
import functools

from evaluation.paper import folds
from evaluation.paper.folds import ClipSet, Method
from features.errors import run_command

# Piczak, ESC: Dataset for Environmental Sound Classification, 2015, and the list of results beside
# it: over five folds, of which ours are four, so that they are trained on four folds and not three.
ESC50 = ClipSet(
    name="esc50",
    title="ESC-50",
    source="esc50",
    labels=None,
    num_clips=1_600,
    published={
        "human": 0.813,
        "EnvNet-v2, strong augmentation": 0.849,
        "Piczak's CNN": 0.645,
        "random forest on MFCC": 0.443,
    },
)
# Each of the 1,200 clips is seen some 210 times, another stretch of it each time.
FROM_SCRATCH = Method(
    name="from_scratch",
    label="MobileNet, from scratch",
    recipe="small",
    settings={
        **{"width": "0.5", "batch_size": "64", "steps": "4000", "softmax": "true"},
        **{"crop_seconds": "1.92", "mixup": "0.3", "band_shift": "3", "gain_decibels": "9"},
        **{"masks": "2", "weight_decay": "0.1"},
    },
    candidates=({"learning_rate": "1e-3"}, {"learning_rate": "3e-3"}),
)
# ResNet-50 as in Table 2, and with the recipe `modern`, at the learning rate of the recipe, since a
# choice for each fold would take as long as the tested runs.
_RESNET = {"width": "0.25", "batch_size": "64", "steps": "1000", "crop_seconds": "0.96"}
PAPER = Method(
    name="paper",
    label="ResNet-50, the paper's recipe, from scratch",
    recipe="resnet50",
    settings=_RESNET,
    candidates=({},),
    by_default=False,
)
MODERN = dataclasses.replace(
    PAPER, name="modern", label="ResNet-50, modern recipe, from scratch", recipe="modern"
)
# The detectors of section 4.4, for as long as validation says: a mini-batch of log-mel has a fifth
# of the sound.
DETECTOR_LOG_MEL = Method(
    name="detector_log_mel",
    label="fully connected, on log-mel 64 x 20",
    recipe="audio_set_log_mel",
    settings={},
    candidates=tuple(
        {"learning_rate": rate, "steps": steps}
        for rate in ("3e-4", "1e-3")
        for steps in ("500", "2000")
    ),
    num_seeds=3,
    input="short",
)
DETECTOR_YAMNET = dataclasses.replace(
    DETECTOR_LOG_MEL,
    name="detector_yamnet",
    label="fully connected, on embeddings of YAMNet",
    recipe="audio_set_embeddings",
    input="embeddings",
)
# What candidates of the classifier have in common, but for what makes each of them another one.
_LINEAR = {"softmax": "true", "cosine": "true", "steps": "3000", "batch_size": "128"}
PROBE_YAMNET = Method(
    name="probe_yamnet",
    label="linear, on embeddings of YAMNet",
    recipe="audio_set_embeddings",
    settings={"num_layers": "0"},
    candidates=(
        *(
            {"learning_rate": rate, **_LINEAR, **schedule}
            for schedule in ({}, {"cosine": "false"}, {"steps": "1000"})
            for rate in ("3e-4", "1e-3", "3e-3")
        ),
        {"learning_rate": "1e-3", **_LINEAR, "batch_size": "32"},
        *({"learning_rate": rate, **_LINEAR, "softmax": "false"} for rate in ("1e-3", "3e-3")),
    ),
    num_seeds=3,
    input="embeddings",
)
main = functools.partial(
    folds.main,
    ESC50,
    (FROM_SCRATCH, PROBE_YAMNET, DETECTOR_LOG_MEL, DETECTOR_YAMNET, PAPER, MODERN),
)

if __name__ == "__main__":
    run_command(main)
