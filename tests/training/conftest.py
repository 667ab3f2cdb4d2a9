"""A FEATURES folder made in the test: the labels of a video decide which bands are loud."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.contracts import folders, record, tfrecord
from features.contracts.documents import (
    BandStatistics,
    Features,
    FeaturesSplit,
    VocabularyReference,
)
from features.contracts.labels import FILE_NAME, Vocabulary
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd, PatchStorage

NUM_LABELS = 6
PATCHES_PER_VIDEO = 4
VIDEOS_PER_SHARD = 8


def write_features(
    folder: Path, *, shards: dict[str, int], dtype: str = "uint8"
) -> dict[str, list[tuple[str, np.ndarray, tuple[int, ...]]]]:
    """Write a folder; returns (key, float32 log-mel as stored, labels) of every patch by split."""
    rng = np.random.default_rng(7)
    front_end = FrontEnd(resampler="none", storage=PatchStorage(dtype=dtype))
    vocabulary = Vocabulary(
        tuple(f"/m/{i}" for i in range(NUM_LABELS)),
        tuple(f"label {i}" for i in range(NUM_LABELS)),
        np.arange(NUM_LABELS, 0, -1),
        10,
    )
    patches: dict[str, list] = {}
    for split, num_shards in shards.items():
        patches[split] = []
        (folder / split / "all").mkdir(parents=True)
        for shard in range(num_shards):
            path = folder / split / "all" / f"patches-{shard:05d}-of-{num_shards:05d}.tfrecord"
            with path.open("wb") as file:
                for video in range(VIDEOS_PER_SHARD):
                    video_id = f"{split}-{shard}-{video}"
                    # From none to three labels a video.
                    chosen = rng.choice(NUM_LABELS, rng.integers(0, 4), replace=False)
                    labels = tuple(int(label) for label in np.sort(chosen))
                    for index in range(PATCHES_PER_VIDEO):
                        log_mel = rng.normal(-2, 0.5, (96, 64)).astype(np.float32)
                        for label in labels:
                            log_mel[:, 10 * label : 10 * label + 8] += 3
                        stored = front_end.storage.encode(log_mel)
                        example = record.PatchRecord(
                            video_id, stored.tobytes(), 0.96 * index, labels
                        )
                        tfrecord.write_record(file, record.encode(example))
                        decoded = front_end.storage.decode(stored)
                        patches[split].append((f"{video_id}/{index}", decoded, labels))
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
                num_bytes=0,
                num_shards={"all": num_shards},
                groups={},
                fingerprint=fingerprint([num_patches, dtype, split]),
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


@pytest.fixture
def make_features() -> Callable:
    return write_features


@pytest.fixture(scope="session")
def features_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write_features(folder, shards={"train": 5, "validation": 2})
    return folder
