"""The stages of `score_videos`: plans of shards from features or from media, and the accounts."""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from evaluation.scoring.shard import (
    FeaturesShard,
    MediaShard,
    Network,
    ScorePlan,
)
from features.contracts import folders
from features.contracts.documents import PatchShard
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, read_sidecar
from features.contracts.videos import Video, read_videos
from features.errors import JobFailedError
from features.storage import files
from pipelines.runtime.failure import fail
from pipelines.runtime.rejects import list_rejects


class PlanFromFeatures(beam.PTransform):
    """Shard keys -> plans, by the sidecars of the features."""

    def __init__(self, features: str, network: Network):
        super().__init__()
        self._features = features
        self._network = network

    def expand(self, keys: beam.PCollection) -> beam.PCollection:
        """Spread the shards over the workers and read their sidecars."""
        return (
            keys
            | "Spread" >> beam.Reshuffle()
            | "Plan" >> beam.Map(_plan_features, self._features, self._network)
        )


def _plan_features(key: ShardKey, features: str, network: Network) -> ScorePlan:
    sidecar = read_sidecar(files.join(features, key.path(PATCHES)), PatchShard)
    missing = tuple((reject.id, reject.reason) for reject in list_rejects(sidecar))
    source = FeaturesShard(features, sidecar.sha256, missing, sidecar.num_videos)
    return ScorePlan(key, source, network)


class PlanFromMedia(beam.PTransform):
    """Shard keys -> plans, by the rows of the data set's videos."""

    def __init__(
        self,
        video_files: list[str],
        groups: Mapping[str, Collection[str]],
        timeout_seconds: float,
        network: Network,
    ):
        """`groups` has those of the keys: split -> groups."""
        super().__init__()
        self._video_files = video_files
        self._groups = groups
        self._timeout_seconds = timeout_seconds
        self._network = network

    def expand(self, keys: beam.PCollection) -> beam.PCollection:
        """Group the rows by shard; the grouping also spreads the shards over the workers."""
        empty = keys | "WithoutVideos" >> beam.Map(lambda key: (dataclasses.astuple(key), None))
        videos = (
            keys.pipeline
            | "VideoFiles" >> beam.Create(self._video_files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self._groups)
        )
        return (
            {"wanted": empty, "videos": videos}
            | "GroupByShard" >> beam.CoGroupByKey()
            | "Plan" >> beam.FlatMap(_plan_media, self._timeout_seconds, self._network)
        )


def _plan_media(
    keyed: tuple[tuple, Mapping[str, Iterable]], timeout_seconds: float, network: Network
) -> Iterator[ScorePlan]:
    key, grouped = keyed
    rows = [row for rows in grouped["videos"] for row in rows]
    videos = tuple(sorted((Video(*row) for row in rows), key=lambda video: video.id))
    yield ScorePlan(ShardKey(*key), MediaShard(videos, timeout_seconds), network)


@dataclasses.dataclass
class Account:
    """What became of the videos of some shards.

    Attributes:
      num_shards: shards.
      groups: counts of each group: videos expected and scored, patches.
      missing: videos without a score, by outcome.
    """

    num_shards: int = 0
    groups: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    missing: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class SumSidecars(beam.CombineFn):
    """Sidecars of scored shards -> one `Account`."""

    def create_accumulator(self) -> Account:
        """Nothing yet."""
        return Account()

    def add_input(self, account: Account, sidecar: Mapping[str, Any]) -> Account:
        """One shard more."""
        account.num_shards += 1
        group = account.groups.setdefault(sidecar["group"], collections.Counter())
        group["num_videos_expected"] += sidecar["num_videos"] + len(sidecar["missing"])
        group["num_videos"] += sidecar["num_videos"]
        group["num_patches"] += sidecar["num_patches"]
        account.missing.update(one["outcome"] for one in sidecar["missing"])
        return account

    def merge_accumulators(self, accounts: Iterable[Account]) -> Account:
        """The sum of several."""
        total = Account()
        for account in accounts:
            total.num_shards += account.num_shards
            for name, counts in account.groups.items():
                total.groups.setdefault(name, collections.Counter()).update(counts)
            total.missing.update(account.missing)
        return total

    def extract_output(self, account: Account) -> Account:
        """The account itself."""
        return account


def finish(made: Mapping[str, Any], account: Account, output: str) -> None:
    """The last stage: all shards of the plan were scored; then `scores.json`.

    Raises:
      JobFailedError: some were not.
    """
    num_shards = sum(made["num_shards"].values())
    if account.num_shards != num_shards:
        message = (
            f"{account.num_shards} of {num_shards} shards were scored; run the command again: it "
            "goes on where it stopped"
        )
        fail(output, JobFailedError(message))
    groups = {name: dict(account.groups[name]) for name in sorted(account.groups)}
    fields = ("num_videos_expected", "num_videos", "num_patches")
    totals = {field: sum(group[field] for group in groups.values()) for field in fields}
    missing = dict(sorted(account.missing.items()))
    if not totals["num_videos"]:
        message = f"none of {totals['num_videos_expected']} videos could be scored: {missing}"
        fail(output, JobFailedError(message))
    document = {**made, **totals, "groups": groups, "missing": missing}
    folders.write_root(output, folders.SCORES, document)
