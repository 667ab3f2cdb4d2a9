"""Dataclasses that hold arrays are not compared by value: NumPy would raise an error."""

import ast
from pathlib import Path

import numpy as np

from features.contracts.labels import Vocabulary

ROOT = Path(__file__).parents[2]


def holds_array(node: ast.ClassDef) -> bool:
    types = [
        ast.unparse(field.annotation) for field in node.body if isinstance(field, ast.AnnAssign)
    ]
    return any("ndarray" in text and not text.startswith("Callable[") for text in types)


def test_no_dataclass_compares_arrays() -> None:
    decorators = {}
    for folder in ("features", "pipelines", "training", "evaluation"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and holds_array(node):
                    decorators[f"{path}: {node.name}"] = [
                        ast.unparse(decorator) for decorator in node.decorator_list
                    ]
    assert len(decorators) > 20
    compared = {
        name
        for name, texts in decorators.items()
        if any("dataclass" in text and "eq=False" not in text for text in texts)
    }
    assert compared == set()


def test_vocabularies_can_be_compared() -> None:
    vocabulary = Vocabulary(("a", "b"), ("A", "B"), np.array([2, 1]), 3)
    assert vocabulary != vocabulary.prefix(2)  # not the same object
    assert vocabulary in [vocabulary]
