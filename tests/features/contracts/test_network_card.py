"""Cards of networks: those that are shipped, and every mistake in one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from features.contracts.network_card import (
    SHIPPED_CARDS,
    LabelsFile,
    NetworkCard,
    NetworkFolder,
    NetworkOutputs,
    WaveformInput,
)
from features.errors import ContractError, InputError
from features.front_end.front_end import Embedding, FrontEnd

# Sample rate, window and hop in seconds, and the file of the labels.
PUBLISHED = {
    "yamnet": (16_000, 0.975, 0.48, "assets/yamnet_class_map.csv"),
    "vggish": (16_000, 0.975, 0.96, None),
    "perch": (32_000, 5.0, 5.0, "assets/labels.csv"),
    "birdnet": (48_000, 3.0, 3.0, "BirdNET_GLOBAL_6K_V2.4_Labels.txt"),
}
EMBEDDING = Embedding(network="0", patches="0", units=2)
CARD = NetworkCard(
    name="of a test",
    file="network.onnx",
    waveform=WaveformInput(
        sample_rate_hz=8000, window_samples=4000, hop_samples=2000, pad_end=True
    ),
    outputs=NetworkOutputs(logits="output_0", embedding="output_1"),
    labels=LabelsFile(file="labels.txt"),
)


def folder_of(path: Path, card: NetworkCard = CARD) -> str:
    (path / "network.onnx").write_bytes(b"weights")
    (path / "labels.txt").write_text("Dog\nCat\n")
    (path / "network.json").write_bytes(card.to_json())
    return str(path)


@pytest.mark.parametrize("name", SHIPPED_CARDS)
def test_shipped_cards_describe_the_published_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="put the network's files into"):
        NetworkFolder.open(str(tmp_path), name)  # the card is valid, the weights are absent
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite").touch()
    *seconds, labels = PUBLISHED[name]
    if labels is not None:
        (tmp_path / labels).parent.mkdir(exist_ok=True)
        (tmp_path / labels).write_text("mid,display_name\n/m/1,Speech\n")

    network = NetworkFolder.open(str(tmp_path), name)

    front_end = network.card.front_end
    found = [front_end.sample_rate_hz, front_end.patch_seconds, front_end.patch_hop_seconds]
    assert found == seconds
    assert (network.card.labels and network.card.labels.file) == labels
    assert network.card.source
    assert network.card.licence


@pytest.mark.parametrize(
    ("content", "columns", "ids", "names"),
    [
        ("Dog\nCat\n", (None, None), ("Dog", "Cat"), ("Dog", "Cat")),
        ("id,label\n7,Dog\n8,Cat\n", ("label", None), ("Dog", "Cat"), ("Dog", "Cat")),
        ("id,label\n7,Dog\n8,Cat\n", ("label", "id"), ("7", "8"), ("Dog", "Cat")),
        ('label\n"Speech, child"\n', (None, None), ("Speech, child",), ("Speech, child",)),
    ],
)
def test_labels(
    tmp_path: Path, content: str, columns: tuple[str | None, str | None], ids: tuple, names: tuple
) -> None:
    file = "labels.txt" if columns == (None, None) and content.startswith("Dog") else "labels.csv"
    labels = LabelsFile(file=file, name_column=columns[0], id_column=columns[1])
    folder = folder_of(tmp_path, dataclasses.replace(CARD, labels=labels))
    (tmp_path / file).write_text(content)

    vocabulary = NetworkFolder.open(folder).vocabulary

    assert (vocabulary.ids, vocabulary.names) == (ids, names)


def waveform(**fields: Any) -> dict[str, Any]:
    assert CARD.waveform is not None
    return {"waveform": dataclasses.replace(CARD.waveform, **fields)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"file": "absent.onnx"}, "file: there is no"),
        ({"file": "absent"}, "absent/saved_model.pb"),
        ({"labels": LabelsFile(file="absent.txt")}, "labels.file: there is no"),
        ({"labels": None}, "labels: name the file"),
        ({"outputs": NetworkOutputs(embedding="e")}, "none for a network without scores"),
        ({"outputs": NetworkOutputs()}, "name one of scores, logits and embedding"),
        ({"outputs": NetworkOutputs(scores="s", logits="l")}, "not both"),
        ({"patches": FrontEnd(resampler="soxr")}, "one of the fields waveform and patches"),
        (
            {
                "patches": FrontEnd(
                    resampler="soxr", embedding=Embedding(network="0", patches="0", units=2)
                )
            },
            "patches.embedding: no medium is decoded",
        ),
        ({"waveform": None}, "one of the fields waveform and patches"),
        (waveform(sample_rate_hz=0), "sample_rate_hz is 0; give 1 or more"),
        (waveform(hop_samples=5000), "hop_samples is 5000, longer than the window of 4000"),
        (waveform(full_scale=0.0), "full_scale is 0; give a value above 0"),
        (waveform(peak=-1.0), "peak is -1"),
        (waveform(peak=0.5, frames_itself=True), "none for a network that frames"),
    ],
)
def test_mistakes_are_refused_with_field_and_cure(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = folder_of(tmp_path, dataclasses.replace(CARD, **fields))

    with pytest.raises(InputError, match=message):
        NetworkFolder.open(folder)


def test_a_folder_without_a_card_and_a_card_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*network.json; write one"):
        NetworkFolder.open(str(tmp_path))
    folder = folder_of(tmp_path)
    content = json.loads((tmp_path / "network.json").read_bytes())
    content["waveform"]["sample_rate_hz"] = "16 kHz"
    (tmp_path / "network.json").write_text(json.dumps(content))
    with pytest.raises(ContractError, match=r"waveform.sample_rate_hz.*write the field"):
        NetworkFolder.open(folder)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    labels = LabelsFile(file="labels.csv", name_column="species")
    folder = folder_of(tmp_path, dataclasses.replace(CARD, labels=labels))
    (tmp_path / "labels.csv").write_text("id,label\n7,Dog\n")

    with pytest.raises(InputError, match=r"no column .species.*id, label"):
        _ = NetworkFolder.open(folder).vocabulary


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.txt", "Dog\nLöwe\n".encode("latin-1"), "line 2 is not UTF-8.*save the file as"),
        ("labels.txt", b"Dog\nCat\nDog\n", "lines 1 and 3 have the same label 'Dog'; make them"),
        ("labels.csv", b'id,name\n7,"Dog,\nbig"\n8,Cat\n7,Cat\n', "lines 3 and 5 .* label '7'"),
    ],
)
def test_labels_that_are_no_text_or_not_unique_are_refused(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    is_table = file.endswith(".csv")
    labels = LabelsFile(
        file=file, id_column="id" if is_table else None, name_column="name" if is_table else None
    )
    folder = folder_of(tmp_path, dataclasses.replace(CARD, labels=labels))
    (tmp_path / file).write_bytes(content)

    with pytest.raises(InputError, match=f"{file}: {message}"):
        _ = NetworkFolder.open(folder).vocabulary


def test_the_fingerprint_is_of_what_decides_the_outputs(tmp_path: Path) -> None:
    first = NetworkFolder.open(folder_of(tmp_path)).fingerprint

    renamed = dataclasses.replace(CARD, name="renamed", licence="CC0")
    assert NetworkFolder.open(folder_of(tmp_path, renamed)).fingerprint == first
    padded = dataclasses.replace(CARD, **waveform(pad_end=False))
    assert NetworkFolder.open(folder_of(tmp_path, padded)).fingerprint != first
    folder = folder_of(tmp_path)
    (tmp_path / "network.onnx").write_bytes(b"other weights")
    assert NetworkFolder.open(folder).fingerprint != first
    (tmp_path / "network.onnx").write_bytes(b"weights")
    found = {NetworkFolder.open(folder).fingerprint}
    for external in (b"weights in another file", b"others"):
        (tmp_path / "network.onnx.data").write_bytes(external)
        found.add(NetworkFolder.open(folder).fingerprint)
    assert first in found
    assert len(found) == 3
