"""Prepares the extraction of damaged shards, and of no others.

Extraction keeps every shard whose sidecar matches its plan. Therefore a repair removes the damaged
shards and runs the extraction command again, provided that the plans are still the same.
"""

import argparse
import shlex
from collections.abc import Iterable

from features.contracts import folders, sharding, shards
from features.contracts.documents import Dataset, EmbeddingsPlan, Features
from features.contracts.shards import RECORDS_SUFFIX
from features.errors import JobFailedError
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from features.storage import files
from pipelines.audit.document import Audit, Problem


def extraction_command(
    features: Features, folder: str, timeout_seconds: float | None = None
) -> list[str]:
    """The module that made a folder, and its flags.

    Args:
      features: `features.json` of the folder.
      folder: for the flag `--output`; its plan has the precision of embeddings.
      timeout_seconds: time limit of one soundtrack; None for that of the recorded command.
    """
    if features.run is not None:
        flags = [
            "pipelines.extract_embeddings",
            f"--features={features.features}",
            f"--run={features.run}",
            f"--output={folder}",
        ]
        plan = folders.find_document(folder, EmbeddingsPlan)
        if plan is not None and plan.runtime is not None:
            flags.append(f"--precision={plan.runtime.precision}")
        return flags
    front_end = features.front_end
    if features.network is not None:
        flags = [
            "pipelines.extract_embeddings",
            f"--from-media={features.dataset}",
            f"--network={features.network}",
            f"--output={folder}",
        ]
        if features.card is not None:
            flags.append(f"--card={features.card}")
        return flags + _shared_flags(features, timeout_seconds)
    flags = [
        "pipelines.extract_features",
        f"--dataset={features.dataset}",
        f"--output={folder}",
        f"--patch-dtype={front_end.storage.dtype}",
        f"--patch-frames={front_end.log_mel.patch_frames}",
        f"--patch-hop-frames={front_end.log_mel.patch_hop_frames}",
    ]
    return flags + _shared_flags(features, timeout_seconds)


def _shared_flags(features: Features, timeout_seconds: float | None) -> list[str]:
    """The flags that patches and embeddings of media share."""
    flags = [f"--splits={','.join(features.splits)}", f"--seed={features.seed}"]
    if features.keep_partial:
        flags.append("--keep-partial")
    if features.patches_per_video:
        flags.append(f"--patches-per-video={features.patches_per_video}")
        sampled = sharding.SPLITS if features.sampled_splits is None else features.sampled_splits
        flags.append(f"--sampled-splits={','.join(sampled)}")
    if timeout_seconds is None:
        timeout_seconds = _recorded_timeout(features)
    if timeout_seconds is not None:
        flags.append(f"--timeout-seconds={timeout_seconds:g}")
    if features.only_subset:
        flags += ["--subset", *features.only_subset]
    return flags


def _recorded_timeout(features: Features) -> float | None:
    """The time limit in the recorded command, for which features.json has no field."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # A template passes parameters with underscores.
    parser.add_argument("--timeout-seconds", "--timeout_seconds", type=float)
    recorded, _ = parser.parse_known_args(shlex.split(features.made_by.command))
    return recorded.timeout_seconds


def require_same_plans(features: Features, folder: str) -> None:
    """Make sure that extraction would keep the undamaged shards.

    Raises:
      ContractError: the data set or the front end is missing or has changed; or, for embeddings,
        the features.
    """
    if features.features is not None:  # extract_embeddings compares the network itself
        folders.require_equal(
            "fingerprint of the features",
            expected=features.features_fingerprint,
            received=folders.read_document(features.features, Features).fingerprint,
            where=features.features,
            cure=f"a repair of {folder} would embed other features; run extract_embeddings on them",
        )
        return
    folders.require_equal(
        "fingerprint of the data set",
        expected=features.dataset_fingerprint,
        received=folders.read_document(features.dataset, Dataset).fingerprint,
        where=features.dataset,
        cure=f"a repair of {folder} would extract every shard again; restore the data set",
    )
    if features.network is not None:  # extract_embeddings compares the network itself
        return
    present = features.front_end.log_mel
    installed = FrontEnd(
        resampler=RESAMPLER,
        log_mel=LogMelParams().with_patch_frames(present.patch_frames, present.patch_hop_frames),
        storage=PatchStorage(dtype=features.front_end.storage.dtype),
    )
    folders.require_equal(
        "front end",
        expected=features.front_end_fingerprint,
        received=installed.fingerprint,
        where="this installation",
        cure=f"a repair of {folder} would extract every shard again; install the versions that "
        f"{Features.FILE} lists under made_by",
    )


def damaged_shards(audit: Audit) -> list[str]:
    """Paths without suffix of the shards that have to be extracted again.

    Raises:
      JobFailedError: shards are damaged, but it is unknown which.
    """
    if any(damage.problem == Problem.WRONG_COUNTS for damage in audit.damages):
        raise JobFailedError(
            "every shard is valid, but some shard is of another run, and it is unknown which; run "
            "`python -m pipelines.extract_features` with --force, which rebuilds all shards"
        )
    # Extraction removes stray files and writes the indexes itself.
    by_extraction = {Problem.STRAY_FILE, Problem.WRONG_INDEX}
    damages = [damage for damage in audit.damages if damage.problem not in by_extraction]
    return sorted({damage.path for damage in damages})


def remove_shards(folder: str, paths: Iterable[str]) -> None:
    """Remove sidecars and record files.

    Args:
      folder: the FEATURES folder.
      paths: of shards, relative to the folder, without suffix.
    """
    for path in paths:
        shard = files.join(folder, path)
        # The sidecar goes first: after an interruption the shard counts as unfinished.
        shards.remove_sidecar(shard)
        files.delete(shard + RECORDS_SUFFIX)
