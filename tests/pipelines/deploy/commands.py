"""Commands as schedulers give them, read by the parsers of the jobs themselves."""

import argparse
import importlib
from collections.abc import Sequence

from pipelines.runtime import launch
from training import train

# Its parser is made in its `main`.
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"


def parse_command(words: Sequence[str]) -> argparse.Namespace:
    """The job's own flags of `python -m MODULE FLAGS`; fails where the job would refuse one."""
    assert list(words[:2]) == ["python", "-m"]
    module, flags = words[2], list(words[3:])
    try:
        if module == train.__name__:
            return train.parse(flags)[0]
        return launch.parse(importlib.import_module(module)._parser(), flags)[0]
    except SystemExit as error:
        raise AssertionError(f"{module} refuses {flags}") from error
