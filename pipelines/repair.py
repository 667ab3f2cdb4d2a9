"""Has damaged shards extracted again, and only those.

Extraction keeps every shard whose sidecar fulfils its plan. So it is enough to remove the damaged
ones and to give the command again, provided that it would make the same plans.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from features import contract, storage
from features.audio import RESAMPLER
from features.front_end import FrontEnd, PatchStorage
from pipelines import resume
from pipelines.extract_shard import RECORDS_SUFFIX


def extraction_flags(features: Mapping[str, Any], folder: str) -> list[str]:
    """The flags of `extract_features` that made a folder, from its `features.json`."""
    return [
        f"--dataset={features['dataset']}",
        f"--output={folder}",
        f"--splits={','.join(features['splits'])}",
        f"--patch-dtype={features['front_end']['storage']['dtype']}",
        f"--seed={features['seed']}",
        *(["--keep-partial"] if features["keep_partial"] else []),
        *(
            [f"--patches-per-video={features['patches_per_video']}"]
            if features["patches_per_video"]
            else []
        ),
        *(["--subset", *subset] if (subset := features.get("only_subset")) else []),
    ]


def require_same_plans(features: Mapping[str, Any], folder: str) -> None:
    """Refuse where extraction would not keep the shards that are whole.

    Raises:
      ContractError: the data set is gone or another one, or the front end is.
    """
    dataset = contract.read_root(features["dataset"], contract.DATASET)
    contract.require_equal(
        "fingerprint of the data set",
        expected=features["dataset_fingerprint"],
        received=dataset["fingerprint"],
        where=features["dataset"],
        cure=f"a repair of {folder} would extract every shard anew; bring the data set back",
    )
    stored = PatchStorage(dtype=features["front_end"]["storage"]["dtype"])
    contract.require_equal(
        "front end",
        expected=features["front_end_fingerprint"],
        received=FrontEnd(resampler=RESAMPLER, storage=stored).fingerprint,
        where="this installation",
        cure=f"a repair of {folder} would extract every shard anew; install the versions that "
        f"its {contract.FEATURES} names under made_by",
    )


def remove_shards(folder: str, shards: Iterable[str]) -> None:
    """Remove sidecars and record files.

    Args:
      folder: the FEATURES folder.
      shards: paths relative to it, without suffix.
    """
    for shard in shards:
        path = storage.join(folder, shard)
        # First: a shard without a sidecar is unfinished, whenever this is interrupted.
        resume.remove_sidecar(path)
        storage.delete(path + RECORDS_SUFFIX)
