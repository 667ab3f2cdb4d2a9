"""One command runs all benchmarks, and the page shows what they measured."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks.__main__ import LONG, SCRIPTS, ScriptFailedError, run_script
from tests.benchmarks.measurement import Table, make_table
from tests.benchmarks.results import DOCS, PAGE, Results, ScriptResult, read_results, render

FOLDER = Path(command.__file__).parent
TABLE = make_table(["video", "CPU s"], [["a", 1.23456], ["b", 1234567], ["c", None], ["d", 2e-5]])
RESULT = ScriptResult(
    date="2026-11-29",
    processor="2 cores of a processor",
    versions=("Python 3.11.7",),
    load=1.23,
    quick=False,
    seconds=12.5,
    cpu_seconds=20.0,
    values={"ratio": 1.5, "name": "PyAV", "none": None},
    tables={"cost": TABLE, "more": make_table(["x"], [[1]])},
)


def test_the_page_is_what_the_results_give() -> None:
    assert render(PAGE.read_text(), read_results()) == PAGE.read_text()
    assert read_results().to_json() == (DOCS / Results.FILE).read_bytes()


def test_every_script_is_run_and_on_the_page() -> None:
    scripts = {path.stem for path in FOLDER.glob("[a-z]*.py") if calls(path, "report")}
    assert scripts - {"measurement"} == set(SCRIPTS)
    on_page = re.findall(r"<!-- benchmark: (\w+)", PAGE.read_text())
    assert set(on_page) == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_refuses_what_cannot_be(name: str) -> None:
    assert calls(FOLDER / f"{name}.py", "require_possible")


def calls(path: Path, function: str) -> bool:
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == function for call in nodes)


def test_tables_are_rendered_between_their_marks() -> None:
    page = (
        "a\n<!-- benchmark: one -->\nold\n<!-- end -->\nb\n<!-- benchmark: two -->\n<!-- end -->\n"
    )
    results = Results(scripts={"one": RESULT})
    read = Results.from_json(results.to_json(), "benchmarks.json")
    assert read.to_json() == results.to_json()
    rendered = render(page, read)
    assert rendered == (
        "a\n<!-- benchmark: one -->\n"
        "`python -m tests.benchmarks.one`, 2026-11-29, 2 cores of a processor, load 1.2 before the "
        "start:\n\n"
        "| video | CPU s |\n| --- | --- |\n"
        "| a | 1.23 |\n| b | 1,234,567 |\n| c |  |\n| d | 2.0e-05 |\n\n"
        "| x |\n| --- |\n| 1 |\n\n<!-- end -->\nb\n"
        "<!-- benchmark: two -->\nNot measured yet.\n<!-- end -->\n"
    )
    assert render(rendered, read) == rendered


def test_values_are_rendered_in_their_places() -> None:
    page = "of <!-- value one.ratio --><!-- end -->, <!-- value one.other -->2<!-- end -->"
    rendered = render(page, Results(scripts={"one": RESULT}))
    assert rendered == (
        "of <!-- value one.ratio -->1.5<!-- end -->, "
        "<!-- value one.other -->not measured<!-- end -->"
    )
    values = re.findall(r"<!-- value (\w+)\.(\w+) -->", PAGE.read_text())
    assert values
    for name, key in values:
        assert f'"{key}"' in (FOLDER / f"{name}.py").read_text()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('{}'); raise SystemExit(3)", "exit code 3"),
        ("print('{}'); print('done')", "its last line is not a JSON object: 'done"),
        ("import time; print('{}'); time.sleep(60)", "it was ended after 2 s"),
    ],
)
def test_a_script_that_fails(code: str, message: str) -> None:
    with pytest.raises(ScriptFailedError, match=message):
        run_script(python(code), limit_seconds=2 if "sleep" in code else 60)


def test_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str, *, quick: bool) -> ScriptResult:
        assert quick
        if name == "codecs":
            raise ScriptFailedError("exit code 1, see above")
        return RESULT

    monkeypatch.setattr(command, "measure", measure)
    before = PAGE.read_bytes()
    assert command.main(["--quick", "--only", "log_mel", "codecs", "memory"]) == 1
    out, err = capsys.readouterr()
    assert "[3 of 3] memory: about" in out
    assert "2 of 3 scripts" in out
    assert err == "error: codecs failed: exit code 1, see above\n"
    assert PAGE.read_bytes() == before


@pytest.mark.parametrize("only", [[], list(LONG)])
def test_the_quick_ones_take_less_than_12_minutes(
    monkeypatch: pytest.MonkeyPatch, only: list[str]
) -> None:
    measured = []

    def measure(name: str, *, quick: bool) -> ScriptResult:
        assert quick
        measured.append(name)
        return RESULT

    monkeypatch.setattr(command, "measure", measure)
    assert command.main(["--quick", *(["--only", *only] if only else [])]) == 0
    assert measured == (only or [name for name in SCRIPTS if name not in LONG])
    assert sum(SCRIPTS[name][0] for name in measured) < 12 * 60


def test_tables_of_a_report_are_read_back() -> None:
    code = (
        "from tests.benchmarks.measurement import make_table, report\n"
        "report({'ratio': 1.234567}, {'cost': make_table(['x'], [[1.23456], [None]])})"
    )
    result = run_script(python(code), limit_seconds=60)
    assert result["ratio"] == 1.23457
    assert Table(**result["tables"]["cost"]).to_markdown() == "| x |\n| --- |\n| 1.23 |\n|  |"
