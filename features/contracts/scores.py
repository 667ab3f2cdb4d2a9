"""The files of a shard of scores, and the sums over its sidecars that `scores.json` has.

scores-00007-of-00042.parquet      video_id, num_patches, labels, scores [labels]
frames-00007-of-00042.parquet      video_id, start_seconds, scores [labels]; on request
embeddings-00007-of-00042.parquet  video_id, start_seconds, embedding [units]; on request
scores-00007-of-00042.json         the sidecar, written last
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from features.contracts.documents import ScoreCounts, Scores, ScoreShard

SCORES, FRAMES, EMBEDDINGS = "scores", "frames", "embeddings"
PARQUET_SUFFIX = ".parquet"


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of the videos of some shards.

    Attributes:
      num_shards: number of shards.
      groups: counts by group.
      missing: outcome -> videos without scores.
      num_patches_now: patches that this job scored; kept shards have none.
      cpu_seconds: that it took.
    """

    num_shards: int
    groups: Mapping[str, ScoreCounts]
    missing: Mapping[str, int]
    num_patches_now: int = 0
    cpu_seconds: float = 0.0

    def fill(self, planned: Scores) -> Scores:
        """A `scores.json` with these counts."""
        totals = add_counts(self.groups.values())
        return dataclasses.replace(
            planned, **vars(totals), groups=self.groups, missing=self.missing
        )


def count_shard(sidecar: ScoreShard) -> Account:
    """The account of one shard."""
    counts = ScoreCounts(
        num_videos_expected=sidecar.num_videos + len(sidecar.missing),
        num_videos=sidecar.num_videos,
        num_patches=sidecar.num_patches,
        num_with_origin=len(sidecar.origins),
    )
    missing = collections.Counter(video.outcome for video in sidecar.missing)
    return Account(1, {sidecar.group: counts}, missing)


def add_accounts(accounts: Iterable[Account]) -> Account:
    """Add up accounts of different shards; groups and outcomes are sorted."""
    accounts = list(accounts)
    groups: dict[str, list[ScoreCounts]] = collections.defaultdict(list)
    missing: collections.Counter[str] = collections.Counter()
    for account in accounts:
        for name, counts in account.groups.items():
            groups[name].append(counts)
        missing.update(account.missing)
    return Account(
        num_shards=sum(account.num_shards for account in accounts),
        groups={name: add_counts(groups[name]) for name in sorted(groups)},
        missing=dict(sorted(missing.items())),
        num_patches_now=sum(account.num_patches_now for account in accounts),
        cpu_seconds=sum(account.cpu_seconds for account in accounts),
    )


def add_counts(parts: Iterable[ScoreCounts]) -> ScoreCounts:
    """Add up the counts of several groups."""
    parts = list(parts)
    return ScoreCounts(
        num_videos_expected=sum(part.num_videos_expected for part in parts),
        num_videos=sum(part.num_videos for part in parts),
        num_patches=sum(part.num_patches for part in parts),
        num_with_origin=sum(part.num_with_origin for part in parts),
    )
