"""Plans of jobs that extract from media, and what they share of `features.json`."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

from features.contracts import folders, forgotten
from features.contracts.documents import Dataset, EmbeddingsPlan, FeaturesRequest, PatchesPlan
from features.errors import InputError
from pipelines.extraction.patches import Settings

# Fields of the plan; a change of these decodes every soundtrack again.
_DECIDES_PATCHES = (
    "front_end_fingerprint",
    "runtime",
    "keep_partial",
    "patches_per_video",
    "sampled_splits",
)


def plan_of(settings: Settings, dataset: Dataset) -> PatchesPlan:
    """`plan.json` of a job."""
    return PatchesPlan(
        front_end_fingerprint=settings.front_end.fingerprint,
        runtime=settings.network.runtime if settings.network else None,
        keep_partial=settings.keep_partial,
        patches_per_video=settings.patches_per_video,
        sampled_splits=settings.sampled_splits,
        seed=settings.seed,
        dataset_fingerprint=dataset.fingerprint,
    )


def request_of(
    source: str,
    dataset: Dataset,
    num_shards: Mapping[str, Mapping[str, int]],
    settings: Settings,
    only_subset: Sequence[str] = (),
) -> FeaturesRequest:
    """The first fields of `features.json` of media.

    Args:
      source: the DATASET folder.
      dataset: its document.
      num_shards: split -> group -> number of shards, of the extracted groups.
      settings: of the extraction.
      only_subset: `--subset` of the command.
    """
    complete = {
        split: {
            name: groups
            for name, groups in dataset.subsets.get(split, {}).items()
            if set(groups) <= set(counts)
        }
        for split, counts in num_shards.items()
    }
    num_videos = sum(
        dataset.splits[split].num_videos_by_group[group]
        for split, counts in num_shards.items()
        for group in counts
    )
    return FeaturesRequest(
        made_by=folders.made_by(),
        network=settings.network.folder if settings.network else None,
        card=settings.network.card if settings.network else None,
        dataset=source,
        dataset_fingerprint=dataset.fingerprint,
        vocabulary=dataset.vocabulary,
        front_end=settings.front_end,
        front_end_fingerprint=settings.front_end.fingerprint,
        seed=settings.seed,
        keep_partial=settings.keep_partial,
        patches_per_video=settings.patches_per_video,
        sampled_splits=settings.sampled_splits,
        only_subset=tuple(only_subset),
        subsets=complete,
        num_videos_planned=num_videos,
    )


def begin(output: str, plan: EmbeddingsPlan) -> None:
    """Write the plan of a job, which makes all shards, also those of an unfinished removal."""
    folders.write_document(output, plan)
    forgotten.end_removal(output)


def compare_plans(output: str, plan: PatchesPlan, *, force: bool) -> None:
    """Print what differs from the plan of the output folder.

    Raises:
      InputError: every soundtrack would be decoded again, and `--force` is not given.
    """
    present = folders.find_document(output, PatchesPlan) or plan
    for field in (field.name for field in dataclasses.fields(plan)):
        before, now = getattr(present, field), getattr(plan, field)
        if before == now:
            continue
        change = f"{output}: {field} was {before!r} and is {now!r} now"
        if field in _DECIDES_PATCHES and not force:
            raise InputError(
                f"{change}; --force decodes every soundtrack again, another --output keeps both"
            )
        print(f"{change}: shards that differ are rebuilt", file=sys.stderr)
