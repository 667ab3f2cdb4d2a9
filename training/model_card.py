"""What lies beside an export for those who did not train it: labels, model card and README."""

import csv
import dataclasses
import io
import re
from collections.abc import Mapping

from features.contracts.export import EMBEDDING, PATCHES, SCORES, WAVEFORM
from features.contracts.labels import Vocabulary
from features.contracts.network_card import LabelsFile, NetworkCard, NetworkOutputs
from features.front_end.front_end import FrontEnd
from features.storage import files
from training.config import Recipe
from training.input.batches import FeatureSet

README, LABELS = "README.md", "labels.csv"
_VALIDATION = "validation_"
# As in the `model-index` of Hugging Face.
_METRIC_NAMES = {
    "mean_average_precision": "mean average precision",
    "accuracy": "1-best accuracy",
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Metrics of a network.

    Attributes:
      dataset: what they were measured on.
      values: metric -> value; empty if nothing was measured.
    """

    dataset: str
    values: Mapping[str, int | float]


def write_cards(
    export: str,
    recipe: Recipe,
    features: FeatureSet,
    steps: int,
    metrics: Mapping[str, int | float | None],
) -> None:
    """Write labels.csv, network.json and README.md into the folder of an export.

    A network on embeddings gets no network.json, because no medium is decoded to its input.

    Args:
      export: the folder.
      recipe: that the network was trained with.
      features: that it was trained on.
      steps: mini-batches of the training.
      metrics: of run.json.
    """
    front_end, vocabulary = features.front_end, features.vocabulary
    files.write_bytes(files.join(export, LABELS), _labels(vocabulary))
    if front_end.embedding is None:
        card = NetworkCard(
            name=recipe.name,
            file=".",
            signature=PATCHES,
            patches=front_end,
            outputs=NetworkOutputs(scores=SCORES, embedding=EMBEDDING),
            labels=LabelsFile(file=LABELS, name_column="name", id_column="id"),
        )
        files.write_bytes(files.join(export, card.FILE), card.to_json())
    readme = render_readme(recipe, front_end, vocabulary, steps, metrics)
    files.write_bytes(files.join(export, README), readme.encode())


def _labels(vocabulary: Vocabulary) -> bytes:
    text = io.StringIO()
    rows = zip(vocabulary.ids, vocabulary.names, strict=True)
    csv.writer(text).writerows([("id", "name"), *rows])
    return text.getvalue().encode()


def render_readme(
    recipe: Recipe,
    front_end: FrontEnd,
    vocabulary: Vocabulary,
    steps: int,
    metrics: Mapping[str, int | float | None],
) -> str:
    """Render the README of an export, as Hugging Face reads it.

    Args:
      recipe: that the network was trained with.
      front_end: of its input.
      vocabulary: of its outputs.
      steps: mini-batches of the training.
      metrics: of run.json.
    """
    values = {
        _METRIC_NAMES[name]: value
        for key, value in metrics.items()
        if (name := key.removeprefix(_VALIDATION)) in _METRIC_NAMES and value is not None
    }
    measured = Measured("the validation subset", values)
    lines = [
        "---",
        "pipeline_tag: audio-classification",
        "tags: [audio, tensorflow, saved-model]",
        "license: other",
        *(_index(recipe.name, measured) if values else []),
        "---",
        "",
        f"# {recipe.name}",
        "",
        f"A network of the recipe `{recipe.name}`, {steps:,} steps of {recipe.batch_size} patches, "
        f"with {len(vocabulary):,} labels (`{LABELS}`).",
        "",
        "## Metrics",
        "",
        *_metrics_table(measured),
        "",
        "## Input",
        "",
        _input(front_end),
        "",
        "## Use",
        "",
        "TensorFlow is enough; run this in the folder:",
        "",
        "```python",
        *_snippet(front_end),
        "```",
        "",
        "## Licence",
        "",
        "The network has the licence that its owner gives it, which `license` above should name. "
        "The licences of the sounds that it was trained on may limit its use.",
        "",
    ]
    return "\n".join(lines)


def update_readme(readme: str, name: str, measured: Measured | None, licence: str | None) -> str:
    """Replace the metrics and the licence of a README, and leave the rest as it is.

    Args:
      readme: the text.
      name: of the network.
      measured: metrics to write; None to leave those that are there.
      licence: its identifier; None to leave the one that is there.

    Raises:
      ValueError: the text has no front matter or no section of metrics to write to.
    """
    parts = re.fullmatch(r"---\n(.*?)^---\n(.*)", readme, re.DOTALL | re.MULTILINE)
    if parts is None:
        raise ValueError("there is no front matter between two lines of ---; put it back")
    front, body = parts.groups()
    if licence is not None:
        front = _replace_field(front, "license", [f"license: {licence}"])
    if measured is not None:
        front = _replace_field(front, "model-index", _index(name, measured))
        section = "\n".join(["## Metrics", "", *_metrics_table(measured), "", ""])
        body, found = re.subn(
            r"^## Metrics\n.*?(?=^## |\Z)",
            lambda _: section,
            body,
            count=1,
            flags=re.DOTALL | re.MULTILINE,
        )
        if not found:
            raise ValueError("there is no section `## Metrics`; put the heading back")
    return f"---\n{front}---\n{body}"


def _replace_field(front_matter: str, field: str, lines: list[str]) -> str:
    others = re.sub(rf"^{field}:.*\n(?:[ -].*\n)*", "", front_matter, flags=re.MULTILINE)
    return others + "\n".join(lines) + "\n"


def _index(name: str, measured: Measured) -> list[str]:
    """The `model-index` of Hugging Face's front matter."""
    return [
        "model-index:",
        f"- name: {name}",
        "  results:",
        "  - task: {type: audio-classification}",
        f'    dataset: {{name: "{measured.dataset}", type: soundtracks}}',
        "    metrics:",
        *(f"    - {{type: {name}, value: {value:.4g}}}" for name, value in measured.values.items()),
    ]


def _metrics_table(measured: Measured) -> list[str]:
    if not measured.values:
        return ["None was measured: there was no validation split."]
    rows = [f"| {name} | {value:.3f} |" for name, value in measured.values.items()]
    return [f"Of {measured.dataset}:", "", "| metric | value |", "|---|---|", *rows]


def _input(front_end: FrontEnd) -> str:
    if front_end.embedding is not None:
        return (
            f"Embeddings of {front_end.embedding.units} values by the network "
            f"{front_end.embedding.network}, one for each {front_end.patch_seconds:g} s of sound."
        )
    params = front_end.log_mel
    return (
        f"The signature `{WAVEFORM}` takes mono samples in [-1, 1) at {params.sample_rate_hz} Hz. "
        f"`{PATCHES}` takes log-mel patches of {params.patch_frames} frames and "
        f"{params.num_mel_bands} bands: {params.patch_seconds:g} s in windows of "
        f"{params.window_seconds * 1000:g} ms every {params.hop_seconds * 1000:g} ms, from "
        f"{params.mel_min_hz:g} to {params.mel_max_hz:g} Hz, ln(magnitude + {params.log_offset:g})."
    )


def _snippet(front_end: FrontEnd) -> list[str]:
    name = WAVEFORM if front_end.embedding is None else PATCHES
    rate = front_end.sample_rate_hz
    given = f"tf.random.normal([5 * {rate}], stddev=0.1)  # 5 s of noise; put your samples here"
    if front_end.embedding is not None:
        given = f"tf.random.normal([5, {front_end.embedding.units}])  # put your embeddings here"
    return [
        "import csv",
        "",
        "import tensorflow as tf",
        "",
        f'with open("{LABELS}", newline="", encoding="utf-8") as file:',
        '    labels = [row["name"] for row in csv.DictReader(file)]',
        'model = tf.saved_model.load(".")',
        f"{name} = {given}",
        f'scores = model.signatures["{name}"]({name}={name})["{SCORES}"]  # [patches, labels]',
        "mean = tf.reduce_mean(scores, axis=0)",
        "for label in tf.argsort(mean, direction='DESCENDING')[:3].numpy():",
        '    print(f"{mean[label]:.3f} {labels[label]}")',
    ]
