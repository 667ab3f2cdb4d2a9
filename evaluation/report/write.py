"""The pages of REPORT: `report.html`, and one for each example soundtrack beside it."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import examples as overview
from evaluation.metrics import summary
from evaluation.report import soundtrack
from evaluation.report.clip import Clip
from evaluation.report.figure import SoundtrackView
from evaluation.report.page import ClassExamples, Example, render_report, render_soundtrack
from features.contracts import folders
from features.storage import files

REPORT, SOUNDTRACKS_FOLDER = "report.html", "soundtracks"


def write(
    output: str,
    scores_folder: str,
    scores: Mapping[str, Any],
    *,
    video_id: str | None,
    num_examples: int,
) -> None:
    """Write the pages of a finished evaluation.

    Args:
      output: REPORT; its other files are read.
      scores_folder: SCORES.
      scores: its `scores.json`.
      video_id: the soundtrack that the report itself shows; None to choose one.
      num_examples: the soundtracks of so many best and so many worst classes get pages.
    """
    metrics = folders.read_root(output, folders.METRICS)
    per_class, examples, confusion = (
        _read_table(files.join(output, name))
        for name in (summary.PER_CLASS, overview.EXAMPLES, overview.CONFUSION)
    )
    best, worst = best_and_worst(per_class, num_examples)
    shown = {
        row[kind]
        for row in examples.take(pa.array(best + worst, pa.int64())).to_pylist()
        for kind in ("hit", "miss", "false_alarm")
        if row[kind] is not None
    }
    own, pages = None, {}
    if scores["frame_scores"] and scores["features"] is not None:
        video_id = video_id or soundtrack.choose_soundtrack(scores_folder, scores)
        try:
            media = soundtrack.find_media(scores, {*shown, video_id})
            own = _soundtrack(scores_folder, scores, media, video_id)
            for one in sorted(shown):
                # An id may be anything; its fingerprint is a file name everywhere.
                pages[one] = f"{SOUNDTRACKS_FOLDER}/{folders.fingerprint(one)}.html"
                page = render_soundtrack(*_soundtrack(scores_folder, scores, media, one))
                files.write_bytes(files.join(output, pages[one]), page.encode())
        except folders.ContractError as error:
            print(f"the page will show no soundtrack: {error}", file=sys.stderr)
    report = render_report(
        metrics,
        per_class,
        best=[_class_examples(label, per_class, examples, pages) for label in best],
        worst=[_class_examples(label, per_class, examples, pages) for label in worst],
        confusion=confusion,
        soundtrack=own,
    )
    files.write_bytes(files.join(output, REPORT), report.encode())


def best_and_worst(per_class: pa.Table, count: int) -> tuple[list[int], list[int]]:
    """The labels of the highest and the lowest AUC, of equal ones of AP; never one in both.

    Unlike AP, the AUC does not depend on how rare a class is.
    """
    auc, ap = (
        per_class[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("auc", "ap")
    )
    order = np.lexsort((-ap, -auc))[: int(np.isfinite(auc).sum())]  # NaN comes last
    count = min(count, len(order) // 2)
    return order[:count].tolist(), order[::-1][:count].tolist()


def _soundtrack(
    scores_folder: str,
    scores: Mapping[str, Any],
    media: Mapping[str, soundtrack.Medium],
    video_id: str,
) -> tuple[SoundtrackView, Clip | None]:
    view = soundtrack.read_soundtrack(scores_folder, scores, video_id)
    return view, soundtrack.read_clip(media.get(video_id), view)


def _class_examples(
    label: int, per_class: pa.Table, examples: pa.Table, pages: Mapping[str, str]
) -> ClassExamples:
    summary, row = (table.slice(label, 1).to_pylist()[0] for table in (per_class, examples))
    return ClassExamples(
        figures=summary,
        examples={
            kind: Example(row[kind], row[f"{kind}_score"], pages.get(row[kind]))
            for kind in ("hit", "miss", "false_alarm")
            if row[kind] is not None
        },
    )


def _read_table(path: str) -> pa.Table:
    with files.open_read(path) as file:
        return pq.read_table(file)
