"""Has damaged shards extracted again, and only those.

Extraction keeps every shard whose sidecar fulfils its plan. So it is enough to remove the damaged
ones and to give the command again, provided that it would make the same plans.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from features.contracts import folders
from features.contracts import shards as resume
from features.contracts.shards import RECORDS_SUFFIX
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from features.storage import files


def extraction_command(features: Mapping[str, Any], folder: str) -> list[str]:
    """The module that made a folder, and its flags, from the folder's `features.json`."""
    if "run" in features:
        return [
            "pipelines.extract_embeddings",
            f"--features={features['features']}",
            f"--run={features['run']}",
            f"--output={folder}",
        ]
    front_end = FrontEnd.from_json(features["front_end"])
    return [
        "pipelines.extract_features",
        f"--dataset={features['dataset']}",
        f"--output={folder}",
        f"--splits={','.join(features['splits'])}",
        f"--patch-dtype={front_end.storage.dtype}",
        f"--patch-frames={front_end.log_mel.patch_frames}",
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
      ContractError: the data set is gone or another one, or the front end is; or the features that
        were embedded are.
    """
    if "run" in features:  # extract_embeddings looks at the network itself
        folders.require_equal(
            "fingerprint of the features",
            expected=features["features_fingerprint"],
            received=folders.read_root(features["features"], folders.FEATURES)["fingerprint"],
            where=features["features"],
            cure=f"a repair of {folder} would embed others; run extract_embeddings on these",
        )
        return
    dataset = folders.read_root(features["dataset"], folders.DATASET)
    folders.require_equal(
        "fingerprint of the data set",
        expected=features["dataset_fingerprint"],
        received=dataset["fingerprint"],
        where=features["dataset"],
        cure=f"a repair of {folder} would extract every shard anew; bring the data set back",
    )
    made_with = FrontEnd.from_json(features["front_end"])
    installed = FrontEnd(
        resampler=RESAMPLER,
        log_mel=LogMelParams().with_patch_frames(made_with.log_mel.patch_frames),
        storage=PatchStorage(dtype=made_with.storage.dtype),
    )
    folders.require_equal(
        "front end",
        expected=features["front_end_fingerprint"],
        received=installed.fingerprint,
        where="this installation",
        cure=f"a repair of {folder} would extract every shard anew; install the versions that "
        f"its {folders.FEATURES} names under made_by",
    )


def remove_shards(folder: str, shards: Iterable[str]) -> None:
    """Remove sidecars and record files.

    Args:
      folder: the FEATURES folder.
      shards: paths relative to it, without suffix.
    """
    for shard in shards:
        path = files.join(folder, shard)
        # First: a shard without a sidecar is unfinished, whenever this is interrupted.
        resume.remove_sidecar(path)
        files.delete(path + RECORDS_SUFFIX)
