"""What an audit tells the person who ran it, in lines of 80 columns."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.audit import repair, shuffle_tests

_COLUMNS = 80
# Of more findings than these, the rest is in `audit.json`.
_SHOWN = 20


def describe(document: Mapping[str, Any], features: Mapping[str, Any], folder: str) -> str:
    """The verdict of `audit.json`, with what to do about it.

    Args:
      document: of `audit.json`.
      features: of the `features.json` beside it.
      folder: both are in, as the person calls it.
    """
    sections = [_counts(document), _damages(document), _leaks(document), _shuffle(document)]
    if document["damages"]:
        sections.append(
            _text(
                "To extract only the damaged shards again, add --repair. It removes them and runs"
            )
        )
        module, *flags = repair.extraction_command(features, folder)
        sections.append(iter([" \\\n      ".join([f"    python -m {module}", *flags])]))
    verdict = "clean" if document["clean"] else "NOT CLEAN"
    lines = [line for section in sections for line in section]
    return "\n".join([*lines, f"{verdict}; wrote {folder}/audit.json"])


def describe_repair(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Whether a repaired folder is what it was; both are its `features.json`."""
    if before["fingerprint"] == after["fingerprint"]:
        return "repaired: every record is what it was before the damage"
    return "\n".join(
        _text(
            f"note: the records are not those of before (fingerprint {after['fingerprint']}, it "
            f"was {before['fingerprint']}): a medium is not what it was, or a shard was of "
            "another run; what was trained on this folder must be trained again"
        )
    )


def _text(text: str, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False)


def _counts(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'split':<12}{'shards':>9}{'videos':>12}{'patches':>14}{'bytes':>18}{'constant':>12}"
    for name, split in document["splits"].items():
        yield (
            f"{name:<12}{split['num_shards']:>9}{split['num_videos']:>12}"
            f"{split['num_patches']:>14}{split['num_bytes']:>18}{split['num_constant']:>12}"
        )
    if any(split["num_constant"] for split in document["splits"].values()):
        yield from _text("note: constant patches are digital silence, or nearly; no damage")


def _damages(document: Mapping[str, Any]) -> Iterator[str]:
    damages = document["damages"]
    yield f"damage    {len(damages) or 'none'}"
    for damage in damages[:_SHOWN]:
        yield from _text(f"  {damage['path']}: {damage['problem']}: {damage['detail']}", "      ")
    yield from _rest(len(damages))


def _leaks(document: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"leaks     {document['num_leaks'] or 'none'} between splits, "
        f"{document['num_copies_within_splits']} copies within a split"
    )
    for leak in document["leaks"][:_SHOWN]:
        yield from _text(
            f"  {leak['kind']} ({leak['likeness']:.2f}): {leak['split']} {leak['id']} = "
            f"{leak['other_split']} {leak['other_id']}",
            "      ",
        )
    yield from _rest(document["num_leaks"])
    if document["num_leaks"]:
        yield from _text(
            "A soundtrack in two splits is evaluated on what it was trained on: remove one id of "
            "each pair from the manifest, or give both one split; then prepare and extract again."
        )
    incomparable = sum(split["num_incomparable"] for split in document["splits"].values())
    if incomparable:
        yield from _text(
            f"note: {incomparable} videos are too short or too even to be known again in another "
            "encoding; of these only exact copies are found"
        )


def _shuffle(document: Mapping[str, Any]) -> Iterator[str]:
    for group, shown in document["shuffle"].items():
        yield (f"shuffle   {group:<21}{'value':>11}{'expected':>11}{'+-':>10}{'p':>9}")
        for name, test in shown["tests"].items():
            deviation = "" if test["deviation"] is None else f"{test['deviation']:.4g}"
            yield (
                f"  {name:<29}{test['value']:>11.4g}{test['expected']:>11.4g}{deviation:>10}"
                f"{test['p_value']:>9.1g}  {'passed' if test['passed'] else 'FAILED'}"
            )
        if not shown["passed"]:
            yield from _text(
                f"A test fails where p < {shuffle_tests.FALSE_ALARM:g}. Training would see a "
                f"biased order: remove the shards of {group} and run extract_features again."
            )


def _rest(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"  ... and {count - _SHOWN} more in audit.json"
