"""The example DAG as text, in an environment without Airflow; `make test-airflow` runs it."""

import ast
from pathlib import Path
from typing import Any

from features import errors
from tests.pipelines.deploy.commands import parse_command

DAG = Path(__file__).parents[3] / "pipelines" / "deploy" / "airflow" / "soundtrack_daily.py"
TREE = ast.parse(DAG.read_text())


def calls(name: str) -> list[dict[str, Any]]:
    """The keyword arguments of each call; of an f-string with `{day}` in its place."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.List):
            return [value(part) for part in node.elts]
        if isinstance(node, ast.JoinedStr):
            return "".join(str(value(part)) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return f"{{{ast.unparse(node.value)}}}"
        return node.value if isinstance(node, ast.Constant) else None

    return [
        {keyword.arg: value(keyword.value) for keyword in node.keywords if keyword.arg}
        for node in ast.walk(TREE)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def constant(name: str) -> Any:
    """A constant of the module."""
    (found,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return ast.literal_eval(found)


def test_every_task_is_a_command_that_its_job_accepts() -> None:
    tasks = {call["task_id"]: call for call in calls("CommandOperator")}

    outputs = {}
    for name, task in tasks.items():
        # A template may be a number to the parser.
        arguments = [
            argument.replace("{{ params.max_reject_fraction }}", "0.2")
            for argument in task["arguments"]
        ]
        args = parse_command(["python", "-m", task["module"], *arguments, *constant("FLAGS")])
        assert args.wait_for_lease
        outputs[name] = args.output
    assert outputs == {name: f"{{day}}/{name}" for name in tasks}
    assert list(tasks) == ["dataset", "features", "scores", "report"]


def test_exit_codes_are_those_of_the_commands() -> None:
    assert set(constant("FINAL")) == {errors.BAD_INPUT, errors.TOO_MANY_REJECTS}
    assert constant("FOLDER_TAKEN") == errors.FOLDER_TAKEN
