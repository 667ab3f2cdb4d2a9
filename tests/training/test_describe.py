import json
import os
from pathlib import Path
from typing import Any

import pytest

from features.contracts.speeds import Speeds
from features.errors import InputError
from training import overrides, recipes
from training.describe import main


@pytest.fixture(scope="module")
def descriptions() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        printed: list[str] = []
        patched.setattr("builtins.print", printed.append)
        assert main(["--json"]) == 0
    return json.loads(printed[0])


# Counted by hand from the tables of the publications, and what section 3.3 says.
@pytest.mark.parametrize(
    ("name", "weights", "multiplies", "paper", "tolerances"),
    [
        ("fully_connected", 11_231_000, 11_231_000, (11.2e6, 11.2e6), (0.005, 0.005)),
        ("alexnet", 37_338_464, 767_639_744, (37.3e6, 767e6), (0.002, 0.001)),
        ("vgg", 62_022_208, 2_423_713_792, (62e6, 2.4e9), (0.01, 0.02)),
        # The text and the number of multiplies disagree; the lean stem has that number.
        ("inception_v3", 28_039_760, 5_437_980_672, (28e6, 4.7e9), (0.02, 0.16)),
        ("inception_v3_lean_stem", 27_903_168, 4_641_897_216, (28e6, 4.7e9), (0.02, 0.013)),
        ("resnet50", 29_770_816, 1_856_403_456, (30e6, 1.9e9), (0.02, 0.03)),
        # Howard et al. 2017, table 1, on one channel of 96 x 64.
        ("small", 6_345_600, 71_792_640, None, None),
        # Tried in the paper, which does not count them.
        ("vgg_reduced_strides", 74_605_120, 4_587_974_656, None, None),
        ("inception_v3_whole_stem", 28_072_736, 5_099_985_024, None, None),
    ],
)
def test_weights_and_multiplies_are_the_papers(
    descriptions: dict[str, Any],
    name: str,
    weights: int,
    multiplies: int,
    paper: tuple[float, float] | None,
    tolerances: tuple[float, float] | None,
) -> None:
    described = descriptions[name]
    assert (described["weights"], described["multiplies"]) == (weights, multiplies)
    if paper is None or tolerances is None:
        assert described["paper"] is None
        return
    assert tuple(described["paper"].values()) == paper
    assert weights == pytest.approx(paper[0], rel=tolerances[0])
    assert multiplies == pytest.approx(paper[1], rel=tolerances[1])


def test_the_small_network_has_the_size_of_yamnet(descriptions: dict[str, Any]) -> None:
    """For its 521 labels, as published with it: 3.7M weights and 69.2M multiplies."""
    head = 1_024 * (3_087 - 521)
    assert descriptions["small"]["weights"] - head == pytest.approx(3.7e6, rel=0.01)
    assert descriptions["small"]["multiplies"] - head == pytest.approx(69.2e6, rel=0.001)


def test_labels_and_bottleneck_change_the_head_alone(descriptions: dict[str, Any]) -> None:
    trunk = descriptions["resnet50"]["weights"] - 2_048 * 3_087
    for labels, suffix in ((30_871, "30k"), (3_087, "3k"), (400, "400")):
        plain = descriptions[f"resnet50_{suffix}"]
        bottleneck = descriptions[f"resnet50_bottleneck_{suffix}"]
        assert plain["labels"] == bottleneck["labels"] == labels
        assert plain["weights"] == trunk + 2_048 * labels
        assert bottleneck["weights"] == trunk + 2_048 * 128 + 128 * labels
        assert (plain["embedding_units"], bottleneck["embedding_units"]) == (2_048, 128)
    # Section 4.2: without a bottleneck "from 30M to 80M".
    assert descriptions["resnet50_30k"]["weights"] == pytest.approx(80e6, rel=0.09)


def test_networks_for_events_take_short_patches_or_embeddings(descriptions: dict[str, Any]) -> None:
    hidden = 2 * 1_000 * 1_000 + 1_000 * 527
    assert descriptions["audio_set_log_mel"]["weights"] == 20 * 64 * 1_000 + hidden
    assert descriptions["audio_set_embeddings"]["weights"] == 2_048 * 1_000 + hidden


def test_every_recipe_is_described(descriptions: dict[str, Any]) -> None:
    assert list(descriptions) == list(recipes.RECIPES)


def test_another_network_or_label_set_is_not_compared(capsys: pytest.CaptureFixture) -> None:
    flags = ["--set", "num_layers=2", "units=500", "num_labels=10", "--json"]
    assert main(["fully_connected", *flags]) == 0
    described = json.loads(capsys.readouterr().out)["fully_connected"]
    assert described["weights"] == 96 * 64 * 500 + 500 * 500 + 500 * 10
    assert described["paper"] is None


def test_the_table_has_the_numbers_of_the_paper(capsys: pytest.CaptureFixture) -> None:
    main(["alexnet"])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *("alexnet", "3087", "37.3M", "37.3M", "768M", "767M")
    ]


def test_fields_are_listed_with_what_the_paper_reports(capsys: pytest.CaptureFixture) -> None:
    main(["alexnet", "--steps=300", "--set", "width=0.25", "mixup=0.3"])
    _, text = capsys.readouterr().out.split("\n\n")
    lines = text.splitlines()
    assert lines[0] == (
        "alexnet: Table 2, row 2 of the paper: AUC 0.894, d-prime 1.764, mAP 0.115, 82 h on 20 "
        "GPUs and 10 parameter servers"
    )
    fields = overrides.fields_of(recipes.alexnet())
    assert [line.split("=")[0].strip() for line in lines[1::2]] == list(fields)
    for expected in ("steps=300", "report_steps=6", "width=0.25", "mixup=0.3", "precision=float32"):
        assert f"  {expected}" in lines
    assert "      dtype of activations; weights and loss are float32 (float32 or bfloat16)" in lines


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="did you mean resnet50"):
        main(["resnet"])
    with pytest.raises(InputError, match="num_labels must be positive; received 0"):
        main(["resnet50", "--set=num_labels=0"])
    with pytest.raises(InputError, match="give their number: --set num_labels=N"):
        main(["resnet50", "--set=num_labels=null"])


def test_the_speed_is_that_of_steps_on_this_machine(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    table = tmp_path / "speeds.json"
    with pytest.raises(InputError, match="--speeds: give --speed too"):
        main(["fully_connected", "--speeds", str(table)])
    small = [
        "fully_connected",
        "--speed",
        "--batch-size=32",
        "--json",
        f"--speeds={table}",
        "--set",
        "precision=bfloat16",
    ]
    rates = []
    for units in (8, 3_000):
        assert main([*small, f"units={units}"]) == 0
        described = json.loads(capsys.readouterr().out)["fully_connected"]
        rates.append(described["patches_per_second"])
        (row,) = Speeds.from_json(table.read_bytes(), str(table)).rows
        assert (row.job, row.network, row.width) == ("training", "fully_connected", 1.0)
        assert (row.precision, row.device) == ("bfloat16", "cpu")
        num_cores = len(os.sched_getaffinity(0))
        assert row.patches_per_second == pytest.approx(rates[-1] / num_cores)
    assert rates[0] > rates[1] > 0  # 28M weights instead of 3M
