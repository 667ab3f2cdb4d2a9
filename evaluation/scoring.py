"""The stages of `score_videos`: one shard an element, then the accounts."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evaluation.score_shard import ScorePlan
from features import contract, storage
from features.errors import JobFailedError
from pipelines import launch
from pipelines.sharding import ShardKey


def plan_shard(sidecar_path: str, **fields: Any) -> Iterator[ScorePlan]:
    """The plan of a shard of features from its sidecar; none where the shard has no patch.

    Args:
      sidecar_path: of the shard.
      **fields: the fields of `ScorePlan` that all shards share.
    """
    sidecar = json.loads(storage.read_bytes(sidecar_path))
    if sidecar["num_patches"]:
        key = ShardKey(**sidecar["key"])
        yield ScorePlan(key=key, records_sha256=sidecar["sha256"], **fields)


def sum_counts(sidecars: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sums of the sidecars' counts."""
    total = {"num_videos": 0, "num_patches": 0}
    for sidecar in sidecars:
        for field in total:
            total[field] += sidecar[field]
    return total


def finish(made: Mapping[str, Any], counts: Mapping[str, int], output: str) -> None:
    """The last stage: all patches of the features were scored; then `scores.json`.

    Raises:
      JobFailedError: some were not.
    """
    if counts["num_patches"] != made["num_patches_expected"]:
        message = (
            f"{counts['num_patches']} patches were scored, the features have "
            f"{made['num_patches_expected']}; run the command again: it goes on where it stopped"
        )
        launch.fail(output, JobFailedError(message))
    contract.write_root(output, contract.SCORES, {**made, **counts})
