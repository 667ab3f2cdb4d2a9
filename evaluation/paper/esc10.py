"""ESC-10 in four folds: the clips of 10 classes of ESC-50.

python -m evaluation.paper.esc10 --scale small --clips sounds --network yamnet --output experiments
"""

import dataclasses
import functools

from evaluation.paper import folds
from evaluation.paper.esc50 import ESC50, FROM_SCRATCH, MODERN, PAPER, PROBE_YAMNET
from features.errors import run_command

ESC10 = dataclasses.replace(
    ESC50,
    name="esc10",
    title="ESC-10",
    labels=(
        *("chainsaw", "clock tick", "crackling fire", "crying baby", "dog"),
        *("helicopter", "rain", "rooster", "sea waves", "sneezing"),
    ),
    num_clips=320,
    published={"human": 0.957, "random forest on MFCC": 0.727},
)
# A fifth of the clips, each of which is seen some 400 times.
_FROM_SCRATCH = dataclasses.replace(
    FROM_SCRATCH, settings={**FROM_SCRATCH.settings, "steps": "1500"}
)
main = functools.partial(folds.main, ESC10, (_FROM_SCRATCH, PROBE_YAMNET, PAPER, MODERN))

if __name__ == "__main__":
    run_command(main)
