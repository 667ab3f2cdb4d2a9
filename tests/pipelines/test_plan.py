"""Predictions against complete enumeration, and against the extraction that follows them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.contracts import folders
from features.errors import InputError, JobFailedError
from pipelines import extract_features, plan, prepare_dataset
from pipelines.cost import estimate as estimation
from pipelines.cost import prices
from pipelines.cost.estimate import Estimate, Stratum
from tests.conftest import Corpus


@pytest.fixture(scope="module")
def dataset(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "dataset"
    prepare_dataset.main(["--manifest", str(corpus.manifest), "--output", str(folder)])
    return folder


def drawn(rng: np.random.Generator) -> tuple[dict[str, Stratum], dict[str, np.ndarray]]:
    """Two kinds of files of 5 and 2 units of cost a size, with scatter, and all their costs."""
    strata, costs = {}, {}
    for kind, ratio, num_videos, num_sampled in (("a", 5.0, 300, 20), ("b", 2.0, 100, 8)):
        sizes = rng.lognormal(0.0, 0.8, num_videos)
        costs[kind] = ratio * sizes * rng.lognormal(0.0, 0.3, num_videos)
        strata[kind] = Stratum(sizes, rng.choice(num_videos, num_sampled, replace=False))
    return strata, costs


def sampled(strata: dict[str, Stratum], costs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {kind: costs[kind][stratum.sampled] for kind, stratum in strata.items()}


def test_intervals_hold_the_total_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        strata, costs = drawn(rng)
        estimate = estimation.estimate_total(strata, sampled(strata, costs))
        low, high = estimate.interval(drift=0.0)
        inside += low <= sum(of_kind.sum() for of_kind in costs.values()) <= high
    # 360 expected; the standard deviation of a binomial count is 6. The ratio estimator's variance
    # is somewhat low in small samples.
    assert 340 <= inside <= 380


def test_a_sample_of_all_is_the_truth() -> None:
    sizes, costs = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 9.0])
    estimate = estimation.estimate_total({"a": Stratum(sizes, np.arange(3))}, {"a": costs})

    assert estimate.total == pytest.approx(17)
    assert estimate.interval(0.0) == (pytest.approx(17), pytest.approx(17))
    # A speed with a standard deviation of a tenth: the normal quantile is 1.645.
    assert estimate.interval(0.1) == pytest.approx((17 - 2.796, 17 + 2.796), abs=1e-3)


def test_ratio_estimate_by_hand() -> None:
    # 2 of 4, sizes 1 and 3 of 1, 3, 4, 8: ratio 2 and residuals -1 and 1; N = 4, f = 1/2, s^2 = 2,
    # mean sizes 4 and 2: 4^2 x 1/2 x 2/2 x (4/2)^2 = 32.
    strata = {"a": Stratum(np.array([1.0, 3.0, 4.0, 8.0]), np.array([0, 1]))}
    assert estimation.estimate_total(strata, {"a": [1.0, 7.0]}) == Estimate(32.0, 32.0, 1.0)


def test_samples_are_dealt_out_by_number_and_size() -> None:
    sizes = {"many": np.full(90, 1.0), "large": np.full(10, 9.0), "one": np.array([0.1])}
    assert estimation.allocate(sizes, 40) == {"many": 28, "large": 10, "one": 1}


def test_predicted_and_real(
    dataset: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main(["--dataset", str(dataset), "--sample", "30", "--scale", "paper"]) == 0
    printed = capsys.readouterr().out
    prediction = json.loads((dataset / plan.PREDICTION).read_text())
    features = tmp_path / "features"
    extract_features.main(["--dataset", str(dataset), "--output", str(features)])
    made = folders.read_root(str(features), folders.FEATURES)
    capsys.readouterr()
    assert plan.main(["--actual", str(features)]) == 0
    compared = capsys.readouterr().out

    assert all(len(line) <= 80 for line in (printed + compared).splitlines())
    assert printed.startswith("15 of 16 videos tried on ")  # all that are there
    assert "  1 videos have no file and cost nothing\n  rejected: 1 corrupt\n" in printed
    assert "70,000,000 videos, 5,240,000 hours, 30,871 labels" in printed
    # Everything was tried: what was written is known, and what it costs but for the moment.
    num_hours = made["num_patches"] * 0.96 / 3600
    assert prediction["audio_hours"] == pytest.approx([num_hours] * 3)
    num_bytes = sum(split["num_bytes"] for split in made["splits"].values())
    assert prediction["num_bytes"] == pytest.approx([num_bytes] * 3, rel=0.01)
    assert prediction["num_shards"] == len(list(features.rglob("patches-*.json")))
    low, best, high = prediction["cpu_seconds"]
    assert low < best < high
    assert best / 3 < made["work"]["cpu_seconds"] < 3 * best
    assert [line.split()[0] for line in compared.splitlines()[1:]] == [
        "CPU,", "sound,", "output,", "shards", "wall",
    ]  # fmt: skip
    assert f"shards{prediction['num_shards']:>30}{prediction['num_shards']:>12}" in compared


def test_too_dear_is_refused(dataset: Path, tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    shutil.copy(Path(prices.__file__).with_name("prices.json"), table)
    document = json.loads(table.read_text())
    document["platforms"]["gold"] = {**document["platforms"]["dataflow"], "vcpu_hour": 1e6}
    table.write_text(json.dumps(document))
    command = ["--dataset", str(dataset), "--sample", "4", "--prices", str(table)]

    assert plan.main([*command, "--max-cost", "5", "--platform", "dataflow"]) == 0
    with pytest.raises(JobFailedError, match=r"--max-cost 5: gold may take .* dollars"):
        plan.main([*command, "--max-cost", "5"])


def test_prices_are_dated_and_have_a_source() -> None:
    ours = prices.read_prices(None)
    assert all(one.as_of and one.source for one in (*ours.platforms.values(), ours.storage))
    flexible, usual = ours.platforms["dataflow-flexrs"], ours.platforms["dataflow"]
    assert flexible.dollars_per_core_hour == pytest.approx(0.6 * usual.dollars_per_core_hour)


def test_refused(dataset: Path, corpus: Corpus, tmp_path: Path) -> None:
    for flags, message in (
        (["--sample", "0"], "--sample: received 0"),
        (["--platform", "moon"], "--platform: received 'moon'; the table has dataflow-flexrs, "),
        (["--prices", str(tmp_path / "none")], "--prices: there is no file"),
        (["--prices", str(corpus.manifest)], "is no table of prices"),
    ):
        with pytest.raises(InputError, match=message):
            plan.main(["--dataset", str(dataset), *flags])
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        plan.main(["--dataset", str(tmp_path)])
    with pytest.raises(InputError, match=r"has no features\.json"):
        plan.main(["--actual", str(tmp_path)])
    (tmp_path / "m.csv").write_text("id,uri,labels\na,none.wav,x\n")
    with pytest.raises(InputError, match="none of the files of 1 videos is there"):
        plan.main(["--manifest", str(tmp_path / "m.csv")])
