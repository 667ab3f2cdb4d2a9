"""The page of a data set: one HTML file that needs no other file and no network."""

import jinja2
import pyarrow as pa

from features import terminal
from features.contracts.documents import Dataset

_LABELS_SHOWN = 100


def render_page(document: Dataset, coverage: pa.Table) -> str:
    """Render the page as HTML.

    Args:
      document: the content of `dataset.json`.
      coverage: the content of `coverage.parquet`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.dataset", package_path="."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = terminal.duration
    splits = document.splits
    shown = coverage.slice(0, _LABELS_SHOWN)
    return environment.get_template("dataset.html").render(
        data=document,
        subsets=[
            (
                split,
                name,
                sum(splits[split].num_videos_by_group[group] for group in groups),
                groups,
            )
            for split, subsets in document.subsets.items()
            for name, groups in subsets.items()
        ],
        names=coverage["name"].slice(0, len(document.statistics.co_occurrence.labels)).to_pylist(),
        columns=[name for name in coverage.column_names if name not in ("index", "id", "name")],
        labels=shown.to_pylist(),
        num_labels=len(coverage),
    )
