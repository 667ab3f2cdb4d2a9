"""Costs of networks by hand, and from a sample of all patches."""

import numpy as np
import pytest

from features.contracts.speeds import Speed, Speeds
from pipelines.cost import networks
from pipelines.cost.estimate import Stratum
from pipelines.cost.network_speed import MeasuredNetwork
from pipelines.cost.networks import ScoredSplit
from pipelines.cost.sample import Sample

SPEED = Speed(
    job="scoring",
    network="vgg",
    precision="float32",
    device="cpu",
    patches_per_second=10.0,
    machine="",
    as_of="",
    source="",
)
MEASURED = MeasuredNetwork(
    speed=SPEED, load_seconds=3.0, padded_rows=20, num_labels=5, fingerprint="f"
)
SPLIT = ScoredSplit(name="train", kinds={"a"}, num_videos=3, num_shards=2, num_labels=7)
# All videos were sampled; only kind a is scored.
SAMPLE = Sample(
    strata={kind: Stratum(np.ones(3), np.arange(3)) for kind in "ab"},
    cpu_seconds={},
    num_patches={"a": np.array([100.0, 200.0, 300.0]), "b": np.full(3, 1e6)},
    bytes_per_patch=6_000.0,
    rejects={},
    num_workers=1,
    wall_seconds=0.0,
)


def test_scoring_by_a_measured_network() -> None:
    found = networks.predict_scoring(SAMPLE, SPLIT, MEASURED, num_workers=4)

    assert found.num_patches == (600, 600, 600)
    # 60 s, the load, and 10 rows more in each of two shards. The speed drifts by 10 %, of which
    # 1.645 standard deviations count.
    assert found.device_seconds == pytest.approx((65 - 9.87, 65, 65 + 9.87))
    assert found.wall_seconds[1] == pytest.approx(65 * (1 / 4 + 3 / 4 / 2))
    assert found.num_bytes == (3 * 5 * 4,) * 3
    assert (found.split, found.model_fingerprint, found.is_measured) == ("train", "f", True)


def test_scoring_by_a_speed_of_the_table() -> None:
    found = networks.predict_scoring(SAMPLE, SPLIT, SPEED, num_workers=1)

    assert found.device_seconds == pytest.approx((30, 60, 120))
    assert found.num_bytes == (3 * 7 * 4,) * 3
    assert not found.is_measured


def test_a_larger_corpus_loads_the_network_once() -> None:
    scored = networks.predict_scoring(SAMPLE, SPLIT, MEASURED, num_workers=1)

    larger = networks.scale_scoring(scored, 1_000, 50, num_workers=10)

    assert larger.device_seconds[1] == pytest.approx(60_005)
    assert larger.wall_seconds[1] == pytest.approx(6_000.5)
    assert larger.num_patches == (600_000,) * 3
    assert larger.num_bytes == (50 * 60,) * 3


def test_training_reads_every_patch() -> None:
    found = networks.predict_training(SPEED, 1_000, 6_000.0, num_workers=5)

    assert found.device_seconds == pytest.approx((50, 100, 200))
    assert found.wall_seconds == pytest.approx((10, 20, 40))
    assert found.num_bytes == (6e6,) * 3


def test_of_rows_about_the_same_the_last_counts() -> None:
    table = Speeds(rows=(SPEED,))
    faster = Speed(**{**vars(SPEED), "patches_per_second": 20.0})
    narrower = Speed(**{**vars(SPEED), "width": 0.5})

    assert table.find(faster) == SPEED
    assert table.find(narrower) is None
    assert table.add(narrower).rows == (SPEED, narrower)
    assert table.add(narrower).add(faster).rows == (narrower, faster)
    assert Speeds(rows=(SPEED, faster)).find(SPEED) == faster
    assert Speeds.from_json(table.to_json(), "") == table
