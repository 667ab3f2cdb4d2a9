"""Jobs that extract from the media of a data set: patches, or embeddings of any network."""

import argparse
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts import folders
from features.contracts.documents import Dataset, Features
from features.errors import InputError
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.flags import parse_splits
from pipelines.extraction.patches import Mode, Settings
from pipelines.extraction.plans import begin, compare_plans, plan_of, request_of
from pipelines.extraction.totals import FeaturesJob
from pipelines.runtime import process_pool

# Split -> group -> number of shards.
_NumShards = Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class Media:
    """The media that a job extracts.

    Attributes:
      source: the DATASET folder.
      dataset: its document.
      num_shards: split -> group -> number of shards, of the groups to extract.
      only_subset: `--subset` of the command.
    """

    source: str
    dataset: Dataset
    num_shards: _NumShards
    only_subset: Sequence[str]


def choose_media(folder: str, args: argparse.Namespace) -> Media:
    """Choose the media of `--splits` and `--subset`.

    Args:
      folder: DATASET.
      args: the flags of `add_media_flags`.

    Raises:
      InputError: the data set has no such split or subset.
    """
    source = files.absolute(folder)
    dataset = folders.read_document(source, Dataset)
    splits = _choose_splits(args.splits, dataset)
    return Media(source, dataset, _choose_groups(args.subset, dataset, splits), args.subset)


def write_features_of_media(
    media: Media, settings: Settings, args: argparse.Namespace, options: PipelineOptions
) -> None:
    """Run the job, and print a summary.

    Args:
      media: to extract.
      settings: what the shards share.
      args: `--output`, `--workers` and the flags of `add_media_flags`.
      options: of the pipeline.

    Raises:
      InputError: the output folder has something else, or would lose a finished split.
      JobFailedError: see `write_features`.
    """
    num_workers = process_pool.num_workers(args.workers, options)
    output, source, num_shards = files.absolute(args.output), media.source, media.num_shards
    mode = Mode(
        timeout_seconds=args.timeout_seconds,
        only_rejects=args.only_rejects,
        force=args.force,
        max_reject_fraction=args.max_reject_fraction,
    )
    folders.claim_output(output, folders.FEATURES, inputs=(source,))
    present = folders.find_document(output, Features)
    plan = plan_of(settings, media.dataset)
    if present is not None:
        _require_all_groups(output, present, media.dataset, num_shards)
    compare_plans(output, plan, force=args.force)
    job = FeaturesJob(
        source=source,
        output=output,
        shown_output=args.output,
        request=request_of(source, media.dataset, num_shards, settings, media.only_subset),
        num_shards=num_shards,
        max_reject_fraction=args.max_reject_fraction,
        started_at=time.time(),
        num_workers=num_workers,
        present_work=None if present is None else present.work,
    )
    extract = stages.ExtractShards(source, output, num_shards, settings, mode, num_workers)
    stages.write_features(extract, functools.partial(begin, output, plan), job, options)


def _choose_splits(text: str, dataset: Dataset) -> list[str]:
    """`"train,validation"` to the splits of these that the data set has."""
    wanted = parse_splits("--splits", text)
    splits = sorted(set(wanted) & set(dataset.splits))
    if not splits:
        raise InputError(
            f"--splits: received {text!r}; the data set has only "
            f"{', '.join(sorted(dataset.splits))}"
        )
    return splits


def _choose_groups(texts: Sequence[str], dataset: Dataset, splits: Sequence[str]) -> _NumShards:
    """`["train=23000"]` to numbers of shards, of all groups of the splits that no text names."""
    num_shards = {split: dict(dataset.splits[split].num_shards) for split in splits}
    for text in texts:
        split, _, name = text.partition("=")
        subsets = dataset.subsets.get(split, {})
        if split not in splits or name not in subsets:
            known = sorted(
                f"{split}={name}" for split in splits for name in dataset.subsets.get(split, {})
            )
            raise InputError(
                f"--subset: received {text!r}; the data set has {' '.join(known) or 'none'}; make "
                "subsets with the flags --subsets and --balanced-sets of pipelines.prepare_dataset"
            )
        num_shards[split] = {group: num_shards[split][group] for group in subsets[name]}
    return num_shards


def _require_all_groups(
    output: str, present: Features, dataset: Dataset, num_shards: _NumShards
) -> None:
    """Make sure that no finished split or group would be removed.

    Raises:
      InputError: one would be.
    """
    missing = sorted(set(present.splits) - set(num_shards))
    if missing:
        raise InputError(
            f"--splits: {output} also has {', '.join(missing)}, which would be lost; ask for all "
            f"splits, --splits {','.join(sorted({*num_shards, *missing}))}: finished shards are "
            "kept"
        )
    for split, counts in num_shards.items():
        if split not in present.splits:
            continue
        # Groups that the data set no longer has are rebuilt under other names.
        known = set(present.splits[split].num_shards) & set(dataset.splits[split].num_shards)
        missing = sorted(known - set(counts))
        if missing:
            raise InputError(
                f"--subset: {output} also has {', '.join(missing)} of {split}, which would be "
                "lost; ask for the larger subset, or for all: finished shards are kept"
            )
