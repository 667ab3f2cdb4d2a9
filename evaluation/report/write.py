"""The pages of REPORT: `report.html`, and a page for each example soundtrack."""

import dataclasses
import sys
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import class_interval, examples, summary
from evaluation.report import soundtrack
from evaluation.report.clip import Clip
from evaluation.report.figure import SoundtrackView
from evaluation.report.page import ClassExamples, Example, render_report, render_soundtrack
from features.contracts.documents import Metrics, Scores
from features.errors import ContractError
from features.fingerprint import fingerprint
from features.storage import files

REPORT, SOUNDTRACKS_FOLDER = "report.html", "soundtracks"
_KINDS = ("hit", "miss", "false_alarm")


@dataclasses.dataclass(frozen=True)
class Pages:
    """Which pages to write.

    Attributes:
      output: the REPORT folder, finished but for the pages.
      scores_folder: the SCORES folder.
      scores: `scores.json` of the folder.
      video_id: the soundtrack on the report; None to choose one.
      num_examples: number of best and of worst classes whose examples get pages.
    """

    output: str
    scores_folder: str
    scores: Scores
    video_id: str | None
    num_examples: int

    def read_soundtrack(
        self, video_id: str, media: Mapping[str, soundtrack.Medium]
    ) -> tuple[SoundtrackView, Clip | None] | None:
        """Read a soundtrack and its sound; None, and a message on stderr, if it cannot be shown."""
        medium = media.get(video_id)
        try:
            view = soundtrack.read_soundtrack(self.scores_folder, self.scores, video_id, medium)
        except soundtrack.NoSpectrogramError as error:
            print(f"{video_id}: {error}; no page shows it", file=sys.stderr)
            return None
        return view, soundtrack.read_clip(medium, view)


def write(pages: Pages, metrics: Metrics) -> None:
    """Write all pages.

    Args:
      pages: which ones.
      metrics: `metrics.json` of the report.
    """
    per_class, example_rows, confusion = (
        _read_table(files.join(pages.output, name))
        for name in (summary.PER_CLASS, examples.EXAMPLES, examples.CONFUSION)
    )
    best, worst, are_certain = best_and_worst(per_class, pages.num_examples)
    shown = {
        row[kind]
        for row in example_rows.take(pa.array(best + worst, pa.int64())).to_pylist()
        for kind in _KINDS
        if row[kind] is not None
    }
    main_soundtrack, links = None, {}
    if pages.scores.frame_scores:
        video_id = pages.video_id or soundtrack.choose_soundtrack(pages.scores_folder, pages.scores)
        try:
            media = soundtrack.find_media(pages.scores, {*shown, video_id})
            main_soundtrack = pages.read_soundtrack(video_id, media)
            for example in sorted(shown):
                found = pages.read_soundtrack(example, media)
                if found is not None:
                    # An id may have any characters; its fingerprint is a valid file name.
                    links[example] = f"{SOUNDTRACKS_FOLDER}/{fingerprint(example)}.html"
                    page = render_soundtrack(*found).encode()
                    files.write_bytes(files.join(pages.output, links[example]), page)
        except ContractError as error:
            print(f"the report shows no soundtrack: {error}", file=sys.stderr)
    report = render_report(
        metrics,
        per_class,
        best=[_class_examples(label, per_class, example_rows, links) for label in best],
        worst=[_class_examples(label, per_class, example_rows, links) for label in worst],
        are_certain=are_certain,
        confusion=confusion,
        soundtrack=main_soundtrack,
    )
    files.write_bytes(files.join(pages.output, REPORT), report.encode())


def best_and_worst(per_class: pa.Table, count: int) -> tuple[list[int], list[int], bool]:
    """The labels of the highest and of the lowest AUC, of equal AUC by AP; no label is in both.

    Unlike AP, AUC does not depend on the frequency of a class. Among many classes of few positives
    some have any AUC by chance, so the labels are of those that chance does not explain
    (`class_interval.beyond_chance`).

    Returns:
      The best, the worst, and True; where fewer than two labels are left, the labels of the most
      positives, no worst ones, and False.
    """
    names = ("auc", "ap", "auc_low", "auc_high", "positives", "effective_origins")
    auc, ap, low, high, positives, origins = (
        per_class[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names
    )
    defined = np.isfinite(auc)
    certain = defined & class_interval.beyond_chance(low, high, positives, origins)
    candidates = np.flatnonzero(certain)
    if len(candidates) < 2:
        labels = np.flatnonzero(defined)
        return labels[np.argsort(-positives[labels], kind="stable")][:count].tolist(), [], False
    order = candidates[np.lexsort((-ap[candidates], -auc[candidates]))]
    count = min(count, len(order) // 2)
    return order[:count].tolist(), order[::-1][:count].tolist(), True


def _class_examples(
    label: int, per_class: pa.Table, example_rows: pa.Table, links: Mapping[str, str]
) -> ClassExamples:
    metrics, row = (table.slice(label, 1).to_pylist()[0] for table in (per_class, example_rows))
    return ClassExamples(
        metrics=metrics,
        examples={
            kind: Example(row[kind], row[f"{kind}_score"], links.get(row[kind]))
            for kind in _KINDS
            if row[kind] is not None
        },
    )


def _read_table(path: str) -> pa.Table:
    with files.open_read(path) as file:
        return pq.read_table(file)
