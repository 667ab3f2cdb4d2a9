"""A FEATURES folder made in the test: the labels of a video decide which bands are loud."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.contracts import folders, index, record, sharding
from features.contracts.documents import (
    BandStatistics,
    Features,
    FeaturesSplit,
    PatchCounts,
    VocabularyReference,
)
from features.contracts.labels import FILE_NAME, Vocabulary
from features.contracts.record import PatchRecord
from features.contracts.shards import PATCHES, RecordFile, write_records
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd, PatchStorage

NUM_LABELS = 6
PATCHES_PER_VIDEO = 4
VIDEOS_PER_SHARD = 8


def write_features(
    folder: Path, *, shards: dict[str, int], dtype: str = "uint8", indexed: bool = True
) -> dict[str, list[tuple[str, np.ndarray, tuple[int, ...]]]]:
    """Write a folder; returns (key, float32 log-mel as stored, labels) of every patch by split.

    Without `indexed`, the training shards are as older versions wrote them.
    """
    rng = np.random.default_rng(7)
    front_end = FrontEnd(resampler="none", storage=PatchStorage(dtype=dtype))
    vocabulary = Vocabulary(
        tuple(f"/m/{i}" for i in range(NUM_LABELS)),
        tuple(f"label {i}" for i in range(NUM_LABELS)),
        np.arange(NUM_LABELS, 0, -1),
        10,
    )
    patches: dict[str, list] = {}
    record_files: dict[str, list[RecordFile]] = {}
    for split, num_shards in shards.items():
        patches[split], record_files[split] = [], []
        (folder / split / "all").mkdir(parents=True)
        for key in sharding.keys(split, {"all": num_shards}):
            records = []
            for video in range(VIDEOS_PER_SHARD):
                video_id = f"{split}-{key.index}-{video}"
                # From none to three labels a video.
                chosen = rng.choice(NUM_LABELS, rng.integers(0, 4), replace=False)
                labels = tuple(int(label) for label in np.sort(chosen))
                for place in range(PATCHES_PER_VIDEO):
                    log_mel = rng.normal(-2, 0.5, (96, 64)).astype(np.float32)
                    for label in labels:
                        log_mel[:, 10 * label : 10 * label + 8] += 3
                    stored = front_end.storage.encode(log_mel)
                    records.append(PatchRecord(video_id, stored.tobytes(), 0.96 * place, labels))
                    decoded = front_end.storage.decode(stored)
                    patches[split].append((f"{video_id}/{place}", decoded, labels))
            longest = max(len(record.encode(patch)) for patch in records)
            padded = longest + record.MIN_PADDING if indexed and split == "train" else None
            path = str(folder / key.path(PATCHES))
            record_files[split].append(write_records(path, records, padded))
    (folder / FILE_NAME).write_bytes(vocabulary.to_bytes())
    num_patches = {split: len(rows) for split, rows in patches.items()}
    num_videos = VIDEOS_PER_SHARD * sum(shards.values())
    document = Features(
        made_by=folders.made_by(),
        dataset="/dataset",
        dataset_fingerprint="0" * 16,
        vocabulary=VocabularyReference(num_labels=NUM_LABELS, fingerprint=vocabulary.fingerprint),
        front_end=front_end,
        front_end_fingerprint=front_end.fingerprint,
        seed=0,
        keep_partial=False,
        num_videos_planned=num_videos,
        fingerprint=fingerprint([num_patches, dtype]),
        num_videos=num_videos,
        num_written=num_videos,
        num_rejects=0,
        rejects={},
        num_patches=sum(num_patches.values()),
        splits={
            split: FeaturesSplit(
                num_videos=VIDEOS_PER_SHARD * num_shards,
                num_patches=num_patches[split],
                num_bytes=sum(file.num_bytes for file in record_files[split]),
                num_shards={"all": num_shards},
                groups={
                    "all": PatchCounts(
                        num_videos=VIDEOS_PER_SHARD * num_shards,
                        num_patches=num_patches[split],
                        num_bytes=sum(file.num_bytes for file in record_files[split]),
                    )
                },
                fingerprint=fingerprint([num_patches, dtype, split]),
                index_fingerprint=(
                    write_group_index(folder, record_files[split])
                    if indexed and split == "train" and num_shards
                    else None
                ),
            )
            for split, num_shards in shards.items()
        },
    )
    folders.write_document(str(folder), document)
    if patches.get("train"):
        frames = np.concatenate([log_mel for _, log_mel, _ in patches["train"]])  # [frames, bands]
        statistics = BandStatistics(
            made_by=folders.made_by(),
            features_fingerprint=document.splits["train"].fingerprint,
            front_end_fingerprint=front_end.fingerprint,
            num_patches=len(patches["train"]),
            mean=frames.mean(axis=0).tolist(),
            standard_deviation=frames.std(axis=0).tolist(),
        )
        folders.write_document(str(folder), statistics)
    return patches


def write_group_index(folder: Path, record_files: list[RecordFile]) -> str:
    """Write the index of the training group; returns `index_fingerprint`."""
    num_records = VIDEOS_PER_SHARD * PATCHES_PER_VIDEO
    table = np.array([(num_records, file.record_bytes) for file in record_files])
    digest = index.write_index(index.path_of(str(folder), "train", "all"), table)
    return index.split_fingerprint({"all": digest})


@pytest.fixture
def make_features() -> Callable:
    return write_features


@pytest.fixture(scope="session")
def features_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write_features(folder, shards={"train": 5, "validation": 2})
    return folder
