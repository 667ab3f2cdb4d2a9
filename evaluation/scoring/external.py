"""Make a SCORES folder from two tables: the scores of any other model, and the labels.

    scores    `id`, and for each label a column of numbers with the name of the label
    labels    `id`, `labels`, and optionally `group`, the origins of the video: lists, or texts
              with the separator `;`

The folder is evaluated and compared like the folders of `score_videos`.
"""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from evaluation.scoring.shard import score_table, vectors
from features.contracts import folders, labels, sharding, shards
from features.contracts.documents import MissingVideo, Scores, ScoreShard, VocabularyReference
from features.contracts.labels import Vocabulary
from features.contracts.scores import (
    PARQUET_SUFFIX,
    SCORES,
    Account,
    add_accounts,
    add_counts,
    count_shard,
)
from features.contracts.sharding import ALL, EVALUATION
from features.errors import InputError
from features.storage import files

_ID, _LABELS, _GROUP, _SEPARATOR = "id", "labels", "group", ";"
_NO_SCORE = "no_score"  # the outcome of a video that has labels and no scores
_MAX_NAMED = 5  # values in a message
_SHARD_BYTES = 64e6
_ROWS_AT_ONCE = 4_096
_CSV_BLOCK_BYTES = 64 << 20


def write_scores_folder(scores_file: str, labels_file: str, output: str) -> None:
    """Write a SCORES folder from two tables.

    Args:
      scores_file: Parquet or CSV.
      labels_file: Parquet or CSV.
      output: the folder; an existing one is replaced.

    Raises:
      InputError: a file cannot be read, or the tables do not fit together.
    """
    labels_of, origins_of = _read_labels(labels_file)
    with _open(scores_file, "--scores-file", texts=(_ID,)) as batches:
        names = _score_columns(scores_file, batches.schema)
        vocabulary = _vocabulary(labels_of, names, labels_file)
        num_shards = math.ceil(4 * len(names) * len(labels_of) / _SHARD_BYTES)
        files.delete_folder(output)
        scored = _write_shards(scores_file, batches, labels_of, vocabulary, num_shards, output)
    account = _write_sidecars(scored, labels_of, origins_of, num_shards, output)
    files.write_bytes(files.join(output, labels.FILE_NAME), vocabulary.to_bytes())
    document = Scores(
        made_by=folders.made_by(),
        scores_file=scores_file,
        labels_file=labels_file,
        features=None,
        features_fingerprint=None,
        dataset=None,
        dataset_fingerprint=None,
        num_shards={ALL: num_shards},
        run=None,
        model_fingerprint=files.digest([scores_file]),
        recipe={},
        vocabulary=VocabularyReference(
            num_labels=len(vocabulary), fingerprint=vocabulary.fingerprint
        ),
        num_labels=len(vocabulary),
        front_end_fingerprint=None,
        patch_seconds=None,
        split=EVALUATION,
        subset=None,
        subsets={},
        dtype="float32",
        frame_scores=False,
        embeddings=False,
        **vars(add_counts(account.groups.values())),
        groups=account.groups,
        missing=account.missing,
    )
    folders.write_document(output, document)


@dataclasses.dataclass(frozen=True)
class _Batches:
    """A table of any size: the schema, and the rows in batches."""

    schema: pa.Schema
    rows: Iterator[pa.RecordBatch]


@contextlib.contextmanager
def _open(path: str, flag: str, texts: Sequence[str]) -> Iterator[_Batches]:
    try:
        with files.open_read(path) as file:
            # An id that looks like a number in the first rows may be text in later ones.
            yield _batches(path, file, texts=texts)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{flag} {path}: no such file; give a Parquet or CSV file") from error
    except pa.ArrowInvalid as error:
        kind = "CSV" if _is_csv(path) else "Parquet"
        raise InputError(f"{flag} {path}: cannot be read as {kind}: {error}") from error


def _batches(path: str, file: IO[bytes], *, texts: Sequence[str]) -> _Batches:
    if not _is_csv(path):
        parquet = pq.ParquetFile(file)
        return _Batches(parquet.schema_arrow, parquet.iter_batches(_ROWS_AT_ONCE))
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=False
        ),
    )
    return _Batches(reader.schema, iter(reader))


def _is_csv(path: str) -> bool:
    return path.lower().endswith(".csv")


def _read_labels(path: str) -> tuple[dict[str, list[str]], dict[str, tuple[str, ...]]]:
    """Read id -> labels, and id -> origins of the videos that have any; sorted and distinct."""
    found: dict[str, list[str]] = {}
    origins_of: dict[str, tuple[str, ...]] = {}
    with _open(path, "--labels-file", texts=(_ID, _LABELS, _GROUP)) as batches:
        for column in (_ID, _LABELS):
            if column not in batches.schema.names:
                raise InputError(
                    f"--labels-file {path}: no column {column!r}; it has "
                    f"{_named(batches.schema.names)}; rename a column"
                )
        for batch in batches.rows:
            ids = batch[_ID].cast(pa.string()).to_pylist()
            groups = [None] * len(ids)
            if _GROUP in batches.schema.names:
                groups = batch[_GROUP].to_pylist()
            for video_id, value, group in zip(ids, batch[_LABELS].to_pylist(), groups, strict=True):
                if video_id in found:
                    raise InputError(
                        f"--labels-file {path}: column id: {video_id!r} occurs twice; an id may "
                        "occur once: join the labels of its rows"
                    )
                found[video_id] = _texts(value)
                if origins := _texts(group):
                    origins_of[video_id] = tuple(origins)
    if not found:
        raise InputError(f"--labels-file {path}: has no rows; expected one row a video")
    return found, origins_of


def _texts(value: Any) -> list[str]:
    """The texts of a cell, sorted and distinct: a list, a text with separators, or a number."""
    if not isinstance(value, list):
        value = [] if value is None else str(value).split(_SEPARATOR)
    return sorted({text for part in value if (text := str(part).strip())})


def _score_columns(path: str, schema: pa.Schema) -> list[str]:
    if _ID not in schema.names:
        raise InputError(
            f"--scores-file {path}: no column {_ID!r}; it has "
            f"{_named(schema.names)}; rename the column of video ids"
        )
    names = [name for name in schema.names if name != _ID]
    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise InputError(
                f"--scores-file {path}: column {name!r} is of {kind}, expected numbers; every "
                f"column but {_ID!r} has the scores of a label: remove the column, or correct the "
                "values that are not numbers"
            )
    if len(set(names)) < len(names) or not names:
        raise InputError(
            f"--scores-file {path}: expected a column of scores for each label, each name once"
        )
    return names


def _vocabulary(labels_of: Mapping[str, list[str]], names: list[str], path: str) -> Vocabulary:
    """The labels that have scores, by falling count, ties by falling label, as in data sets."""
    counts = collections.Counter(label for own in labels_of.values() for label in own)
    unknown = sorted(set(counts) - set(names))
    if unknown:
        raise InputError(
            f"--labels-file {path}: {len(unknown)} labels have no column of scores: "
            f"{_named(unknown)}; score them, or remove them from the labels; columns are "
            f"{_named(names)}"
        )
    ordered = sorted(names, key=lambda name: (counts[name], name), reverse=True)
    return Vocabulary(
        ids=tuple(ordered),
        names=tuple(ordered),
        counts=np.array([counts[name] for name in ordered], np.int64),
        num_videos=len(labels_of),
    )


def _named(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:_MAX_NAMED])) + (", ..." if len(values) > _MAX_NAMED else "")


def _write_shards(
    path: str,
    batches: _Batches,
    labels_of: Mapping[str, list[str]],
    vocabulary: Vocabulary,
    num_shards: int,
    output: str,
) -> dict[str, int]:
    """Write each row to the shard of its video; returns id -> index of the shard."""
    shard_of: dict[str, int] = {}
    index_of = {label: index for index, label in enumerate(vocabulary.ids)}
    with contextlib.ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        for batch in batches.rows:
            table = _rows(path, batch, labels_of, vocabulary, index_of)
            indices = []
            for video_id in table["video_id"].to_pylist():
                if video_id in shard_of:
                    raise InputError(
                        f"--scores-file {path}: column id: {video_id!r} occurs twice; an id may "
                        "occur once: remove the others, or take the mean of their scores"
                    )
                key = sharding.shard_of(video_id, EVALUATION, num_shards)
                shard_of[video_id] = key.index
                indices.append(key.index)
            for index in sorted(set(indices)):
                if index not in writers:
                    name = _path(index, num_shards, output) + PARQUET_SUFFIX
                    file = stack.enter_context(files.atomic_write(name))
                    writer = pq.ParquetWriter(file, table.schema)
                    writers[index] = stack.enter_context(writer)
                writers[index].write_table(table.filter(pa.array(np.equal(indices, index))))
    return shard_of


def _rows(
    path: str,
    batch: pa.RecordBatch,
    labels_of: Mapping[str, list[str]],
    vocabulary: Vocabulary,
    index_of: Mapping[str, int],
) -> pa.Table:
    """Convert rows of the given table to rows of a score file."""
    ids = batch[_ID].cast(pa.string()).to_pylist()
    without = [video_id for video_id in ids if video_id not in labels_of]
    if without:
        raise InputError(
            f"--scores-file {path}: {_named(without)} have no row in --labels-file; give every "
            "video a row there, with empty labels if it has none, and write the ids the same in "
            "both files"
        )
    columns = [batch[name].cast(pa.float32(), safe=False) for name in vocabulary.ids]
    # A null becomes NaN, which evaluation reports with the video and the label.
    scores = np.stack(
        [column.fill_null(math.nan).to_numpy(zero_copy_only=False) for column in columns], axis=1
    )
    return score_table(
        ids,
        np.ones(len(ids)),
        [sorted(index_of[label] for label in labels_of[video_id]) for video_id in ids],
        vectors(scores, "float32"),
        vocabulary.fingerprint,
    )


def _write_sidecars(
    shard_of: Mapping[str, int],
    labels_of: Mapping[str, list[str]],
    origins_of: Mapping[str, tuple[str, ...]],
    num_shards: int,
    output: str,
) -> Account:
    num_scored = collections.Counter(shard_of.values())
    missing: dict[int, list[MissingVideo]] = collections.defaultdict(list)
    for video_id in labels_of:
        if video_id not in shard_of:
            index = sharding.shard_of(video_id, EVALUATION, num_shards).index
            missing[index].append(MissingVideo(id=video_id, outcome=_NO_SCORE))
    origins: dict[int, dict[str, tuple[str, ...]]] = collections.defaultdict(dict)
    for video_id in origins_of.keys() & shard_of.keys():
        origins[shard_of[video_id]][video_id] = origins_of[video_id]
    accounts = []
    for index in range(num_shards):
        sidecar = ScoreShard(
            plan=None,
            group=ALL,
            num_videos=num_scored[index],
            num_patches=num_scored[index],
            missing=tuple(missing[index]),
            origins=dict(sorted(origins[index].items())),
        )
        shards.write_sidecar(_path(index, num_shards, output), sidecar)
        accounts.append(count_shard(sidecar))
    return add_accounts(accounts)


def _path(index: int, num_shards: int, output: str) -> str:
    return files.join(output, sharding.ShardKey(EVALUATION, ALL, index, num_shards).path(SCORES))
