"""Removes videos from a folder of scores, shard by shard."""

import dataclasses
import functools
from collections.abc import Collection

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton

from features.contracts import folders, forgotten, sharding, shards
from features.contracts.documents import MissingVideo, Scores, ScoreShard
from features.contracts.scores import (
    EMBEDDINGS,
    FRAMES,
    PARQUET_SUFFIX,
    SCORES,
    Account,
    add_accounts,
    count_shard,
)
from features.contracts.sharding import ShardKey
from features.errors import ContractError, JobFailedError
from features.sound.outcome import Outcome
from features.storage import files
from pipelines.forgetting.shards import Found, find_videos
from pipelines.runtime import launch
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.failure import name_place
from pipelines.runtime.process_pool import MapOnWorkers

# Begins the plan of a sidecar while files of the shard may have rows of forgotten videos. No plan
# is like it, so that the shard is scored again if the removal is not finished.
_BEGUN = "removal of videos from "
_KINDS = (FRAMES, EMBEDDINGS, SCORES)


def find_in_scores(folder: str, scores: Scores, ids: Collection[str]) -> Found:
    """Find videos in a folder of scores."""

    def read(key: ShardKey) -> tuple[set[str], set[str]]:
        path = files.join(folder, key.path(SCORES))
        sidecar = shards.find_sidecar(path, ScoreShard)
        missing = () if sidecar is None else sidecar.missing
        present = set(_read_num_patches(path + PARQUET_SUFFIX))
        present.update(video.id for video in missing if video.outcome != Outcome.FORGOTTEN)
        return present, {video.id for video in missing} - present

    num_shards = {scores.split: scores.num_shards}
    return find_videos(folder, ids, num_shards, _KINDS, PARQUET_SUFFIX, read)


def forget_in_scores(
    folder: str,
    scores: Scores,
    ids: frozenset[str],
    num_workers: int,
    options: PipelineOptions,
) -> None:
    """Rewrite the shards that have some of these videos, and then `scores.json`.

    Args:
      folder: the SCORES folder.
      scores: its root document.
      ids: of the videos.
      num_workers: processes of this machine.
      options: of the pipeline.

    Raises:
      JobFailedError: a shard is damaged.
    """
    keys = list(sharding.keys(scores.split, scores.num_shards))

    def build(pipeline: beam.Pipeline) -> None:
        # Also those of an earlier removal that was killed.
        forget = functools.partial(_forget, folder=folder, ids=forgotten.read_forgotten(folder))
        account = (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | "ForgetVideos" >> MapOnWorkers(forget, num_workers)
            | "Counters" >> CountElements("forget", _measure)
            | "CountShard" >> beam.MapTuple(lambda _, sidecar: count_shard(sidecar))
            | "AddAccounts" >> beam.CombineGlobally(add_accounts)
        )
        _ = (
            pipeline
            | "Scores" >> beam.Create([scores])
            | "Finish" >> beam.Map(_finish, AsSingleton(account), folder)
        )

    launch.run(
        build,
        options,
        folder,
        clear=functools.partial(forgotten.begin_removal, folder, scores, ids),
        tidy=lambda: shards.remove_partial_files(folder),
    )


def _finish(scores: Scores, account: Account, folder: str) -> None:
    folders.write_document(folder, account.fill(scores))
    forgotten.end_removal(folder)


def _forget(key: ShardKey, folder: str, ids: frozenset[str]) -> tuple[ShardKey, ScoreShard]:
    with name_place(f"shard {key.path(SCORES)}"):
        return key, forget_scores(key, folder, ids)


def _measure(shard: tuple[ShardKey, ScoreShard]) -> Counts:
    """What a shard adds to the counters of the runner."""
    key, sidecar = shard
    num_forgotten = sum(video.outcome == Outcome.FORGOTTEN for video in sidecar.missing)
    sums = {"shards": 1, "videos": sidecar.num_videos, "videos_forgotten": num_forgotten}
    return Counts(element=key.path(SCORES), sums=sums)


def forget_scores(key: ShardKey, folder: str, ids: frozenset[str]) -> ScoreShard:
    """Remove videos from a finished shard; returns its sidecar.

    Raises:
      JobFailedError: the sidecar is missing or damaged.
    """
    path = files.join(folder, key.path(SCORES))
    try:
        sidecar = shards.read_sidecar(path, ScoreShard)
    except (FileNotFoundError, ContractError) as error:
        raise JobFailedError(
            f"{error}; run the command that made {folder} again: it scores this shard again"
        ) from error
    plan = (sidecar.plan or "").removeprefix(_BEGUN)
    num_patches = _read_num_patches(path + PARQUET_SUFFIX)
    outcomes = {video.id: video.outcome for video in sidecar.missing}
    own = {
        video_id
        for video_id in ids & (num_patches.keys() | outcomes.keys())
        if outcomes.get(video_id) != Outcome.FORGOTTEN
    }
    if not own and plan == sidecar.plan:
        return sidecar
    outcomes |= dict.fromkeys(own, str(Outcome.FORGOTTEN))
    left = {name: number for name, number in num_patches.items() if name not in ids}
    done = ScoreShard(
        plan=plan,
        group=sidecar.group,
        num_videos=len(left),
        num_patches=sum(left.values()),
        missing=tuple(MissingVideo(id=name, outcome=outcomes[name]) for name in sorted(outcomes)),
        origins={name: found for name, found in sidecar.origins.items() if name not in ids},
    )
    # First the ids, which the files do not tell once they have lost them.
    shards.write_sidecar(path, dataclasses.replace(done, plan=_BEGUN + plan))
    for kind in _KINDS:
        _remove_rows(files.join(folder, key.path(kind)) + PARQUET_SUFFIX, ids)
    shards.write_sidecar(path, done)
    return done


def _read_num_patches(path: str) -> dict[str, int]:
    """Id -> number of patches, of the videos that have scores; empty without a file."""
    try:
        with files.open_read(path) as file:
            table = pq.read_table(file, columns=["video_id", "num_patches"])
    except FileNotFoundError:
        return {}
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _remove_rows(path: str, ids: frozenset[str]) -> None:
    """Rewrite a file without the rows of some videos; delete it if no row is left."""
    values = pa.array(sorted(ids), pa.string())
    try:
        source = files.open_read(path)
    except FileNotFoundError:
        return
    with source:
        rows = pq.ParquetFile(source)
        is_removed = pc.is_in(rows.read(["video_id"])["video_id"], values)
        if pc.all(is_removed).as_py():
            files.delete(path)
        elif pc.any(is_removed).as_py():
            with (
                files.atomic_write(path) as target,
                pq.ParquetWriter(target, rows.schema_arrow) as writer,
            ):
                for group in range(rows.num_row_groups):
                    table = rows.read_row_group(group)
                    table = table.filter(pc.invert(pc.is_in(table["video_id"], values)))
                    if len(table):
                        writer.write_table(table)
