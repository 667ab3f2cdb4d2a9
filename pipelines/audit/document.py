"""`audit.json`, as frozen dataclasses."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import ClassVar

from features.contracts.folders import MadeBy
from features.sound.decoder_version import DecoderVersion
from features.typed_json import OMIT_DEFAULT, OMIT_NONE, Document


class Problem(enum.StrEnum):
    """What can be wrong with a shard."""

    MISSING_SHARD = "missing_shard"  # `features.json` names it, but it has no file
    MISSING_RECORDS = "missing_records"  # a sidecar without its record file
    MISSING_SIDECAR = "missing_sidecar"  # a record file without its sidecar
    BAD_SIDECAR = "bad_sidecar"  # not a valid sidecar, or of another shard
    BAD_CHECKSUM = "bad_checksum"  # a damaged or truncated record
    BAD_RECORD = "bad_record"  # a good checksum, but invalid for the front end or the vocabulary
    WRONG_RECORDS = "wrong_records"  # not the records that the sidecar counts
    WRONG_DIGEST = "wrong_digest"  # the right number of records with other bytes
    WRONG_COUNTS = "wrong_counts"  # the sidecars do not add up to `features.json`
    WRONG_INDEX = "wrong_index"  # the index of a training group differs from its sidecars
    STRAY_FILE = "stray_file"  # belongs to no shard, but readers would read it


@dataclasses.dataclass(frozen=True, order=True)
class Damage:
    """One finding.

    Attributes:
      path: of a shard without suffix, or of a stray file, relative to the folder; or a split.
      problem: what is wrong.
      detail: words about it.
    """

    path: str
    problem: Problem
    detail: str


class DuplicateKind(enum.StrEnum):
    """How two soundtracks are the same."""

    EXACT = "exact"  # every stored patch is equal
    COPY = "copy"  # another encoding or level, or one soundtrack begins with the other


@dataclasses.dataclass(frozen=True, order=True)
class Duplicate:
    """Two ids of one soundtrack, the lesser (split, id) first."""

    split: str
    id: str
    other_split: str
    other_id: str
    kind: DuplicateKind
    likeness: float

    @property
    def is_leak(self) -> bool:
        """Whether the two ids are in different splits."""
        return self.split != self.other_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleTest:
    """A statistic of shuffled shards.

    Attributes:
      value: of the statistic.
      expected: under random shuffling.
      deviation: standard deviation under random shuffling; None for a chi-square.
      p_value: probability of a value at least as far from the expected value.
      num_labels: number of tested labels; None for tests that do not look at labels.
      passed: whether `p_value` is above the threshold.
    """

    value: float
    expected: float
    deviation: float | None
    p_value: float
    num_labels: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    passed: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleTests:
    """The tests of a training group, by name; `false_alarm` is the threshold of the p-values."""

    passed: bool
    false_alarm: float
    tests: Mapping[str, ShuffleTest]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditedSplit:
    """Sums over the readable shards of a split.

    Attributes:
      num_shards: shards of the split, readable or not.
      num_videos, num_patches, num_bytes: from the sidecars.
      num_constant: patches of one value, such as silence.
      num_incomparable: videos that are not recognised in another encoding: they are short or
        steady, or only a few patches of them are stored.
      label_videos: number of videos by label index.
    """

    num_shards: int
    num_videos: int
    num_patches: int
    num_bytes: int
    num_constant: int
    num_incomparable: int
    label_videos: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit(Document):
    """`audit.json` in FEATURES.

    Attributes:
      made_by: the command.
      features_fingerprint: of the records.
      front_end_fingerprint: of the front end.
      clean: no damage, no leak, and every shuffle test passed.
      damages: what is wrong with the files.
      num_leaks: soundtracks that have ids in two splits.
      leaks: the first 10,000 leaks.
      num_copies_within_splits: soundtracks that have two ids in one split.
      shuffle: by training group.
      splits: by split.
      decoders: of all readable shards.
    """

    FILE: ClassVar[str] = "audit.json"
    MAKER: ClassVar[str] = "python -m pipelines.audit_features"

    made_by: MadeBy
    features_fingerprint: str
    front_end_fingerprint: str
    clean: bool
    damages: tuple[Damage, ...]
    num_leaks: int
    leaks: tuple[Duplicate, ...]
    num_copies_within_splits: int
    shuffle: Mapping[str, ShuffleTests]
    splits: Mapping[str, AuditedSplit]
    decoders: tuple[DecoderVersion, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)
