"""The Beam stages of `audit_features`: one shard is one element; the last stage adds them up."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from features.contracts import folders, index, sharding
from features.contracts.documents import Features
from features.contracts.folders import MadeBy
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES
from features.errors import ContractError
from features.storage import files
from pipelines.audit.document import Audit, AuditedSplit, Damage, Problem
from pipelines.audit.duplicates import DuplicateTotals, FindDuplicates
from pipelines.audit.shard import Findings, ShardRules, examine_shard
from pipelines.audit.shuffle_tests import run_tests
from pipelines.extraction import totals
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.failure import name_place
from pipelines.runtime.membership import JoinJob

_COUNTS = ("num_videos", "num_patches", "num_bytes")


@dataclasses.dataclass(eq=False)
class AuditFolder(beam.PTransform):
    """Examine all shards of a folder and write `audit.json`.

    Attributes:
      folder: the FEATURES folder.
      features: its `features.json`.
      rules: for its records.
      made_by: the command.
    """

    folder: str
    features: Features
    rules: ShardRules
    made_by: MadeBy

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Examine shard by shard; then add the findings, and look for duplicates."""
        keys = list_keys(self.features)
        findings = (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | JoinJob()
            | "ExamineShard" >> beam.Map(_examine, self.folder, self.rules)
            | "Counters" >> CountElements("audit", measure_findings)
        )
        duplicates = (
            findings
            | "Fingerprints" >> beam.FlatMap(lambda shard: shard.fingerprints)
            | "Duplicates" >> FindDuplicates(self.features.num_videos)
        )
        index_damages = (
            findings
            | "IndexRows" >> beam.FlatMap(lambda shard: shard.index_rows)
            | "GroupRows" >> beam.GroupByKey()
            | "CheckIndex" >> beam.FlatMap(check_index, self.folder, self.features)
            | "IndexDamage" >> beam.Map(lambda damage: Findings(damages=(damage,)))
        )
        strays = Findings(damages=tuple(find_strays(self.folder, keys)))
        return (
            (findings, index_damages, pipeline | "Strays" >> beam.Create([strays]))
            | "AllFindings" >> beam.Flatten()
            | "AddFindings" >> beam.CombineGlobally(add_findings)
            | "Finish" >> beam.Map(self._finish, AsSingleton(duplicates))
        )

    def _finish(self, findings: Findings, duplicates: DuplicateTotals) -> None:
        document = make_document(self.features, self.made_by, findings, duplicates)
        folders.write_document(self.folder, document)


def list_keys(features: Features) -> list[ShardKey]:
    """All shards that a `features.json` names."""
    return [
        key
        for name, split in features.splits.items()
        for key in sharding.keys(name, split.num_shards)
    ]


def find_strays(folder: str, keys: Iterable[ShardKey]) -> Iterator[Damage]:
    """Find files that belong to none of the shards, but that readers of the folder would read."""
    expected = {key.path(PATCHES) for key in keys}
    for path in files.list_files(folder, f"*/*/{PATCHES}-*"):
        name = path.removeprefix(folder).lstrip("/")
        if name.rsplit(".", 1)[0] not in expected:
            detail = "belongs to no shard that features.json names"
            yield Damage(name, Problem.STRAY_FILE, detail)


def _examine(key: ShardKey, folder: str, rules: ShardRules) -> Findings:
    with name_place(f"shard {key.path(PATCHES)}"):
        return dataclasses.replace(examine_shard(key, folder, rules), shard=key.path(PATCHES))


def measure_findings(findings: Findings) -> Counts:
    """What a shard adds to the counters of the runner."""
    counts = {
        field: sum(count for (_, name), count in findings.counts.items() if name == field)
        for field in _COUNTS
    }
    return Counts(
        element=findings.shard, sums={"shards": 1, "damages": len(findings.damages), **counts}
    )


def check_index(
    grouped: tuple[tuple[str, str], Iterable[tuple[int, int, int | None]]],
    folder: str,
    features: Features,
) -> Iterator[Damage]:
    """Compare the index of a training group with the sidecars of its readable shards."""
    group, rows = grouped
    split, name = group
    entry = features.splits[split]
    if entry.index_fingerprint is None:
        return
    try:
        index.require_index(folder, split, entry.num_shards, entry.index_fingerprint)
        table, _ = index.read_index(index.path_of(folder, *group))
    except ContractError as error:
        yield Damage(f"{split}/{name}/{index.FILE_NAME}", Problem.WRONG_INDEX, str(error))
        return
    found = {number: tuple(row) for number, row in enumerate(table.tolist())}
    wrong = [number for number, *row in rows if found.get(number) != tuple(row)]
    if wrong:
        detail = f"differs from the sidecars of {len(wrong)} shards, such as shard {min(wrong)}"
        yield Damage(f"{split}/{name}/{index.FILE_NAME}", Problem.WRONG_INDEX, detail)


def add_findings(findings: Iterable[Findings]) -> Findings:
    """Add findings, without the fingerprints and rows of indexes."""
    findings = list(findings)
    return Findings(
        damages=tuple(damage for part in findings for damage in part.damages),
        counts=_add_values(part.counts for part in findings),
        label_videos=_add_values(part.label_videos for part in findings),
        evidence=_add_values(part.evidence for part in findings),
    )


def _add_values(parts: Iterable[Mapping]) -> dict:
    total: dict = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value if key in total else value
    return total


def make_document(
    features: Features, made_by: MadeBy, findings: Findings, duplicates: DuplicateTotals
) -> Audit:
    """Make `audit.json`.

    Args:
      features: `features.json` of the folder.
      made_by: the command.
      findings: sum over all shards.
      duplicates: of all videos.
    """
    counts = collections.Counter(findings.counts)
    # If a shard is damaged, its counts are missing.
    damages = tuple(sorted(findings.damages) or _compare_with_features(features, counts))
    shuffle = {group: run_tests(total) for group, total in sorted(findings.evidence.items())}
    splits = {
        name: AuditedSplit(
            num_shards=sum(split.num_shards.values()),
            num_videos=counts[name, "num_videos"],
            num_patches=counts[name, "num_patches"],
            num_bytes=counts[name, "num_bytes"],
            num_constant=counts[name, "num_constant"],
            num_incomparable=counts[name, "num_incomparable"],
            label_videos=tuple(np.asarray(findings.label_videos.get(name, ())).tolist()),
        )
        for name, split in features.splits.items()
    }
    all_passed = all(tests.passed for tests in shuffle.values())
    return Audit(
        made_by=made_by,
        features_fingerprint=features.fingerprint,
        front_end_fingerprint=features.front_end_fingerprint,
        clean=not damages and not duplicates.num_leaks and all_passed,
        damages=damages,
        num_leaks=duplicates.num_leaks,
        leaks=duplicates.leaks,
        num_copies_within_splits=duplicates.num_within,
        shuffle=shuffle,
        splits=splits,
        decoders=totals.list_decoders(counts),
    )


def _compare_with_features(
    features: Features, counts: Mapping[tuple[str, str], int]
) -> Iterator[Damage]:
    """Compare sums over shards: a valid shard may belong to another run."""
    for name, split in features.splits.items():
        found: dict[str, int | str] = {field: counts[name, field] for field in _COUNTS}
        found["fingerprint"] = totals.fingerprint_split(counts, name)
        for field, value in found.items():
            expected = getattr(split, field)
            if value != expected:
                detail = f"{field} is {value!r}, {Features.FILE} says {expected!r}"
                yield Damage(name, Problem.WRONG_COUNTS, detail)
