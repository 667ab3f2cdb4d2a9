"""The plot of mAP against CPU time: its points, from results and benchmarks as they are on disk."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from evaluation.paper import map_over_cost
from evaluation.paper.map_over_cost import Point
from features.errors import InputError

RESULTS = {
    "table2": {
        "scale": "small",
        "resnet50": {"label": "ResNet-50", "map": 0.5, "intervals": {"map": [0.45, 0.55]}},
        "vgg": {"label": "VGG", "map": 0.4, "intervals": {"map": [0.3, 0.5]}},
    },
    "modern": {"small": {"label": "MobileNet", "map": 0.49, "intervals": {"map": None}}},
}
ROWS = [
    ("resnet50", "tensorflow float32", 10.0),
    ("resnet50", "openvino float32", 20.0),
    ("resnet50", "openvino int8", 40.0),
    ("small", "tensorflow float32", 250.0),
]


def write(folder: Path) -> None:
    rows = [[*row, 1.0, 1.0] for row in ROWS]
    header = ["network", "runtime", "patches per CPU second", "a", "b"]
    script = {"date": "", "processor": "", "quick": False, "values": {}}
    script["tables"] = {"networks": {"header": header, "rows": rows}}
    (folder / "benchmarks.json").write_text(json.dumps({"scripts": {"scoring": script}}))
    (folder / "results.json").write_text(json.dumps(RESULTS))


def test_networks_have_the_fastest_runtime_in_float32(tmp_path: Path) -> None:
    header = ("network", "runtime", "patches per CPU second")
    speeds = map_over_cost.fastest_in_float32([dict(zip(header, row, strict=True)) for row in ROWS])
    assert speeds == {"resnet50": 20.0, "small": 250.0}
    found = map_over_cost.points(RESULTS, speeds)
    assert found == [
        Point("ResNet-50", 50.0, 0.5, (0.45, 0.55)),
        Point("MobileNet", 4.0, 0.49, None),
    ]
    figure = Figure()
    map_over_cost.fill(figure, found)
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["ResNet-50", "MobileNet"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"] == [50.0, 4.0]


def test_the_plot_is_made_of_the_files_of_the_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path)
    output = tmp_path / "plot.svg"
    flags = [f"--results={tmp_path}", f"--output={output}"]
    assert map_over_cost.main(flags) == 0
    printed = capsys.readouterr().out
    assert "2 networks" in printed
    # What has no point is named, with what is missing.
    assert "without alexnet: results.json has no such row of table2" in printed
    assert "without vgg: benchmarks.json has no speed of vgg in float32" in printed
    assert printed.count("without ") == 5
    assert "MobileNet" in output.read_text()
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="has no network with both an mAP and a speed"):
        map_over_cost.main(flags)
