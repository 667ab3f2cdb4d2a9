"""A small corpus of real media files, shared by the tests of the jobs."""

import collections
import contextlib
import csv
import dataclasses
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

from features.contracts.labels import FILE_NAME, Vocabulary
from pipelines.corpus.encoding import FORMATS, write_media

# TensorFlow's pauses between attempts under gs:// grow from 10 ms, not from 1 s. It reads this when
# it is imported.
os.environ["GCS_RETRY_CONFIG_INIT_DELAY_TIME_US"] = "10000"
# As `features.quiet` does, for tests that import TensorFlow before it does.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Scores of this process are compared with those of others, which may not import `training`.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Files whose tests start a cluster, and wait for it half of their time.
_CLUSTER_FILES = ("test_cluster_faults.py", "test_flink.py", "test_strategies.py")
# Files that would keep one process busy after all others if they came last.
_LONG_FILES = ("test_experiments.py",)
# Label -> frequency of its tone; soundtracks are mixtures of the tones of their labels.
TONES = {"Low": 220.0, "Middle": 880.0, "High": 3520.0}
# By index: every label is with and without in each split.
_SPLITS = {0: "evaluation", 3: "evaluation", 5: "evaluation", 8: "evaluation", 11: "evaluation"}
_SPLITS |= {6: "validation", 12: "validation"}
_NOBODY = 65534


class FilesAndClusters(LoadFileScheduling):
    """Each file in one process, for the sake of its fixtures; all clusters in the same, in turn."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "clusters" if file.endswith(_CLUSTER_FILES) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return FilesAndClusters(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest."""
    first = (*_CLUSTER_FILES, *_LONG_FILES)
    places = {name: place for place, name in enumerate(first)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Media files in a folder, described by a manifest."""

    manifest: Path
    num_good: int
    num_broken: int

    @property
    def flags(self) -> list[str]:
        """Of `prepare_dataset`, with the labels."""
        return ["--manifest", str(self.manifest), known_labels(self.manifest)]


def known_labels(manifest: Path) -> str:
    """A flag with the labels of a manifest, by falling count.

    It spares the tests of other stages the analysis of labels, two thirds of `prepare_dataset`.
    """
    with manifest.open(newline="") as file:
        cells = [set(row["labels"].split(";")) for row in csv.DictReader(file)]
    counts = collections.Counter(sorted((name for cell in cells for name in cell), reverse=True))
    ids, numbers = zip(*counts.most_common(), strict=True)
    vocabulary = Vocabulary(ids, ids, np.array(numbers), len(cells))
    (manifest.parent / FILE_NAME).write_bytes(vocabulary.to_bytes())
    return f"--vocabulary={manifest.parent}"


def make_corpus(folder: Path, num_soundtracks: int) -> Corpus:
    """Soundtracks of 2 to 5 s in every format, one file that is no medium, one that is absent."""
    rng = np.random.default_rng(7)
    rows = []
    for index in range(num_soundtracks):
        kind = FORMATS[index % len(FORMATS)]
        labels = [name for bit, name in enumerate(TONES) if (index % 7 + 1) >> bit & 1]
        seconds = 2.0 + index % 4
        time = np.arange(int(seconds * kind.sample_rate)) / kind.sample_rate
        mono = 0.1 * rng.standard_normal(len(time))
        mono += sum(0.05 * np.sin(2 * np.pi * TONES[name] * time) for name in labels)
        samples = np.repeat(mono[:, None], kind.num_channels, axis=1).astype(np.float32)
        name = f"clip-{index:02d}{kind.suffix}"
        write_media(
            folder / name,
            samples,
            sample_rate=kind.sample_rate,
            codec=kind.codec,
            video=kind.video,
        )
        rows.append((name, name, ";".join(labels), _SPLITS.get(index % 14, "train")))
    (folder / "broken.mp4").write_text("this is no medium\n" * 100)
    rows.append(("broken", "broken.mp4", "Low", "train"))
    rows.append(("absent", "absent.wav", "High", "evaluation"))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *rows])
    return Corpus(manifest, num_soundtracks, 2)


@contextlib.contextmanager
def closed_folder() -> Iterator[str]:
    """A folder that may only be read, also where the tests run as root: as nobody in the block."""
    folder = Path(tempfile.mkdtemp())  # the parents of tmp_path may be closed to others
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield str(folder)
    finally:
        if is_root:
            os.seteuid(0)
        folder.rmdir()


@pytest.fixture(scope="session", autouse=True)
def single_worker() -> Iterator[None]:
    """Without --workers, jobs in this process have one, whose decoder serves all of them.

    Tests run side by side, and two decoders for each of their jobs would cost more than the work.
    """
    module = sys.modules.get("pipelines.runtime.process_pool")  # imported if a test runs a job
    with pytest.MonkeyPatch.context() as patch:
        if module:
            patch.setattr(module, "default_workers", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Halve the second or two of CPU that Beam needs to build and start a job in this process.

    For each transform it parses all options several times, and inspects the methods of the same
    classes. Here it does both once. Jobs in processes of their own start as ever.
    """
    core = sys.modules.get("apache_beam.transforms.core")
    if core is None:
        yield
        return
    from apache_beam.options.pipeline_options import PipelineOptions

    views: dict[tuple[int, type], PipelineOptions] = {}
    signatures: dict[Callable, Any] = {}
    make_view, find_signature = PipelineOptions.view_as, core.get_signature

    def view_as(options: PipelineOptions, kind: type) -> PipelineOptions:
        key = id(options._all_options), kind  # the values, which all views of the options share
        if key not in views:
            views[key] = make_view(options, kind)
        return views[key]

    def get_signature(function: Callable) -> Any:
        if not isinstance(function, types.MethodType):
            return find_signature(function)
        if function.__func__ not in signatures:
            signatures[function.__func__] = find_signature(function)
        return signatures[function.__func__]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PipelineOptions, "view_as", view_as)
        patch.setattr(core, "get_signature", get_signature)
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Fourteen soundtracks, two of each format."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), 14)


@pytest.fixture(scope="session")
def dataset(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of the corpus, to be read only."""
    from pipelines import prepare_dataset

    folder = tmp_path_factory.mktemp("dataset")
    assert prepare_dataset.main([*corpus.flags, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def features(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the corpus; a test that changes them takes a copy."""
    from pipelines import extract_features

    folder = tmp_path_factory.mktemp("features")
    assert extract_features.main(["--dataset", str(dataset), "--output", str(folder)]) == 0
    return folder
