"""Commands of schedulers, parsed by the parsers of the jobs."""

import argparse
import importlib
from collections.abc import Sequence

from pipelines.runtime import launch
from training import train

# Its parser is made in its `main`.
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"


def parse_command(words: Sequence[str]) -> argparse.Namespace:
    """Parse the flags of `python -m MODULE FLAGS`; fails if the job would refuse a flag."""
    assert list(words[:2]) == ["python", "-m"]
    module, flags = words[2], list(words[3:])
    try:
        if module == train.__name__:
            return train.parse(flags)[0]
        return launch.parse(importlib.import_module(module)._parser(), flags)[0]
    except SystemExit as error:
        raise AssertionError(f"{module} refuses {flags}") from error
