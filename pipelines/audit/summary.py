"""Text of an audit in lines of 80 columns."""

import textwrap
from collections.abc import Iterator

from features.contracts.documents import Features
from features.sound.decoder_version import describe_mixture
from pipelines.audit import repair, shuffle_tests
from pipelines.audit.document import Audit

_COLUMNS = 80
# Findings that are listed; `audit.json` has the others.
_NUM_LISTED = 20


def describe(
    audit: Audit, features: Features, folder: str, timeout_seconds: float | None = None
) -> str:
    """Describe an audit, and what to do about its findings.

    Args:
      audit: `audit.json`.
      features: `features.json` beside it.
      folder: that holds both, as the user wrote it.
      timeout_seconds: see `repair.extraction_command`.
    """
    sections = [
        _describe_counts(audit),
        _wrap(describe_mixture(audit.decoders)),
        _describe_damages(audit),
        _describe_leaks(audit, features),
        _describe_shuffle(audit),
    ]
    if audit.damages:
        text = "To extract only the damaged shards again, add --repair. It removes them and runs"
        sections.append(_wrap(text))
        module, *flags = repair.extraction_command(features, folder, timeout_seconds)
        sections.append(iter([" \\\n      ".join([f"    python -m {module}", *flags])]))
    result = "clean" if audit.clean else "NOT CLEAN"
    lines = [line for section in sections for line in section]
    return "\n".join([*lines, f"{result}; wrote {folder}/{Audit.FILE}"])


def describe_repair(before: Features, after: Features) -> str:
    """Say whether a repaired folder has the records that it had before the damage."""
    if before.fingerprint == after.fingerprint:
        return "repaired: every record is what it was before the damage"
    return "\n".join(
        _wrap(
            f"note: the records have changed (fingerprint {after.fingerprint}, it was "
            f"{before.fingerprint}): a media file has changed, or a shard was of another run; "
            "networks that were trained on this folder have to be trained again"
        )
    )


def _wrap(text: str, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False)


def _describe_counts(audit: Audit) -> Iterator[str]:
    yield f"{'split':<12}{'shards':>9}{'videos':>12}{'patches':>14}{'bytes':>18}{'constant':>12}"
    for name, split in audit.splits.items():
        yield (
            f"{name:<12}{split.num_shards:>9}{split.num_videos:>12}{split.num_patches:>14}"
            f"{split.num_bytes:>18}{split.num_constant:>12}"
        )
    if any(split.num_constant for split in audit.splits.values()):
        yield from _wrap("note: constant patches are (almost) digital silence, not damage")


def _describe_damages(audit: Audit) -> Iterator[str]:
    yield f"damage    {len(audit.damages) or 'none'}"
    for damage in audit.damages[:_NUM_LISTED]:
        yield from _wrap(f"  {damage.path}: {damage.problem}: {damage.detail}", "      ")
    yield from _describe_rest(len(audit.damages))


def _describe_leaks(audit: Audit, features: Features) -> Iterator[str]:
    yield (
        f"leaks     {audit.num_leaks or 'none'} between splits, "
        f"{audit.num_copies_within_splits} duplicates within a split"
    )
    for leak in audit.leaks[:_NUM_LISTED]:
        yield from _wrap(
            f"  {leak.kind} ({leak.likeness:.2f}): {leak.split} {leak.id} = "
            f"{leak.other_split} {leak.other_id}",
            "      ",
        )
    yield from _describe_rest(audit.num_leaks)
    if audit.num_leaks:
        yield from _wrap(
            "A network is evaluated on its training data if a soundtrack is in two splits: remove "
            "one id of each pair from the manifest, or give both the same split; then prepare and "
            "extract again."
        )
    sampled = [split for split in audit.splits if features.is_sampled(split)]
    if sampled:
        yield from _wrap(
            f"note: no leak is looked for in {' and '.join(sampled)}, which have "
            f"{features.patches_per_video} patches of each video: two ids of a soundtrack have "
            "different patches; audit an extraction of all patches to find leaks"
        )
    num_incomparable = sum(
        split.num_incomparable for name, split in audit.splits.items() if name not in sampled
    )
    if num_incomparable:
        yield from _wrap(
            f"note: {num_incomparable} videos are too short or too steady to be recognised in "
            "another encoding; only their exact duplicates are found"
        )


def _describe_shuffle(audit: Audit) -> Iterator[str]:
    for group, result in audit.shuffle.items():
        yield f"shuffle   {group:<21}{'value':>11}{'expected':>11}{'+-':>10}{'p':>9}"
        for name, test in result.tests.items():
            deviation = "" if test.deviation is None else f"{test.deviation:.4g}"
            yield (
                f"  {name:<29}{test.value:>11.4g}{test.expected:>11.4g}{deviation:>10}"
                f"{test.p_value:>9.1g}  {'passed' if test.passed else 'FAILED'}"
            )
        if not result.passed:
            yield from _wrap(
                f"A test fails if p < {shuffle_tests.FALSE_ALARM:g}. The order of training would "
                f"be biased: remove the shards of {group} and run extract_features again."
            )


def _describe_rest(count: int) -> Iterator[str]:
    if count > _NUM_LISTED:
        yield f"  ... and {count - _NUM_LISTED} more in {Audit.FILE}"
