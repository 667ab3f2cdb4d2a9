"""`network.json`, the card of a network: what it takes, what it gives, and where its labels are.

With a card, the jobs run a network that was not trained here. The card lies beside the network's
files; for networks that others publish, `NetworkFolder.open` also takes one of `SHIPPED_CARDS` by
name.
"""

import csv
import dataclasses
import functools
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from features.contracts.labels import Vocabulary
from features.errors import ContractError, InputError
from features.fingerprint import fingerprint
from features.front_end.front_end import Embedding, FrontEnd, PatchStorage
from features.front_end.windows import WaveformWindows
from features.sound.waveform import RESAMPLER
from features.storage import files
from features.typed_json import OMIT_DEFAULT, OMIT_NONE, Document, to_plain

SHIPPED_CARDS = ("birdnet", "perch", "vggish", "yamnet")
SAVED_MODEL = "saved_model.pb"  # in the folder of a SavedModel
_KINDS: Mapping[str, Literal["onnx", "tflite"]] = {".onnx": "onnx", ".tflite": "tflite"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformInput(WaveformWindows):
    """The input of a network that takes the samples of a mono waveform.

    Attributes:
      frames_itself: whether the network takes [samples] of any length and cuts the windows itself;
        else it takes [batch, window samples].
      full_scale: value of a sample of full scale; samples lie between it and its negative.
      peak: each window, less its mean, is scaled to this largest value; None to leave the level.
    """

    frames_itself: bool = False
    full_scale: float = 1.0
    peak: float | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOutputs:
    """Names of the outputs that are used; `output_0` is also the first of any network.

    Attributes:
      scores: one for each label, from 0 to 1.
      logits: the same before `activation`; not both.
      activation: from logits to scores.
      embedding: of a layer before them.
    """

    scores: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    logits: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    activation: Literal["sigmoid", "softmax"] = dataclasses.field(
        default="sigmoid", metadata=OMIT_DEFAULT
    )
    embedding: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsFile:
    """The labels of the scores, in order.

    Attributes:
      file: relative to the network's folder: CSV with a header, or lines of text.
      name_column: column of the names for people; None for the first column, and for text.
      id_column: column of the ids; None for the names.
    """

    file: str
    name_column: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    id_column: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkCard(Document):
    """`network.json` beside a network.

    Attributes:
      name: of the network.
      source: where the network is published.
      licence: of the weights, as published.
      file: relative to the network's folder: a folder of a SavedModel (`.` for the folder itself),
        or a file *.tflite or *.onnx.
      signature: of the SavedModel; `__call__` for a SavedModel without any.
      waveform: the input, if it is samples.
      patches: the input, if it is log-mel patches: the front end that they are of.
      outputs: names of the outputs.
      labels: of the scores; None for a network without scores.
    """

    FILE: ClassVar[str] = "network.json"
    MAKER: ClassVar[str] = "python -m training.train"

    name: str
    source: str = ""
    licence: str = ""
    file: str
    signature: str = dataclasses.field(default="serving_default", metadata=OMIT_DEFAULT)
    waveform: WaveformInput | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    patches: FrontEnd | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    outputs: NetworkOutputs
    labels: LabelsFile | None = dataclasses.field(default=None, metadata=OMIT_NONE)

    @property
    def front_end(self) -> FrontEnd:
        """From a soundtrack to the input of the network."""
        if self.patches is not None:
            return self.patches
        assert self.waveform is not None  # `check` requires one of both
        windows = {
            field.name: getattr(self.waveform, field.name)
            for field in dataclasses.fields(WaveformWindows)
        }
        return FrontEnd(
            resampler=RESAMPLER,
            storage=PatchStorage(dtype="float32"),
            windows=WaveformWindows(**windows),
        )

    @classmethod
    def parse(cls, content: bytes, where: str) -> "NetworkCard":
        """As `from_json`, with a cure for a card that a person writes.

        Raises:
          ContractError: the content is no card.
        """
        try:
            return cls.from_json(content, where)
        except ContractError as error:
            problem = str(error).rpartition("; ")[0]
            raise ContractError(
                f"{problem}; write the field as docs/data_contracts.md says"
            ) from None

    def check(self, where: str) -> None:
        """Require fields that agree with each other.

        Args:
          where: path of the card, for messages.

        Raises:
          InputError: the message names the field and the cure.
        """
        outputs = self.outputs
        if self.patches is not None and self.patches.embedding is not None:
            raise InputError(
                f"{where}: patches.embedding: no medium is decoded to embeddings; name the network "
                "that takes sound"
            )
        if (self.waveform is None) == (self.patches is None):
            raise InputError(f"{where}: give one of the fields waveform and patches")
        if outputs.scores is not None and outputs.logits is not None:
            raise InputError(f"{where}: outputs: give scores or logits, not both")
        if outputs.scores is outputs.logits is outputs.embedding is None:
            raise InputError(f"{where}: outputs: name one of scores, logits and embedding")
        if self.has_scores != (self.labels is not None):
            raise InputError(
                f"{where}: labels: name the file of the labels of the scores, and none for a "
                "network without scores"
            )
        if self.waveform is not None:
            _check_waveform(self.waveform, f"{where}: waveform")

    @property
    def has_scores(self) -> bool:
        """Whether the network gives scores."""
        return self.outputs.scores is not None or self.outputs.logits is not None


def _check_waveform(waveform: WaveformInput, where: str) -> None:
    for name in ("sample_rate_hz", "window_samples", "hop_samples"):
        if getattr(waveform, name) < 1:
            raise InputError(f"{where}.{name} is {getattr(waveform, name)}; give 1 or more")
    if waveform.hop_samples > waveform.window_samples:
        raise InputError(
            f"{where}.hop_samples is {waveform.hop_samples}, longer than the window of "
            f"{waveform.window_samples}: sound between the windows would be lost; give "
            f"{waveform.window_samples} or less"
        )
    if not waveform.full_scale > 0:
        raise InputError(f"{where}.full_scale is {waveform.full_scale:g}; give a value above 0")
    if waveform.peak is not None and (waveform.frames_itself or not waveform.peak > 0):
        raise InputError(
            f"{where}.peak is {waveform.peak:g}: give a value above 0, and none for a network that "
            "frames the waveform itself"
        )


def _require_unique(ids: Sequence[str], lines: Sequence[int], path: str) -> None:
    first: dict[str, int] = {}
    for label, line in zip(ids, lines, strict=True):
        if first.setdefault(label, line) != line:
            raise InputError(
                f"{path}: lines {first[label]} and {line} have the same label {label!r}; make them "
                "differ, or name a column of ids that differ under labels.id_column of the card"
            )


@dataclasses.dataclass(frozen=True)
class NetworkFolder:
    """The files of a network and its card. `open` makes one that is checked.

    Attributes:
      folder: of the files.
      card: what they are.
    """

    folder: str
    card: NetworkCard

    @classmethod
    def open(cls, folder: str, card: str | None = None) -> "NetworkFolder":
        """Read the card of a network, and check that its files are there.

        Args:
          folder: of the network's files.
          card: name of a shipped card, or path of a card; None for the `network.json` of the
            folder.

        Raises:
          InputError: there is no card, a field of it is wrong, or a file that it names is missing.
        """
        where = card or files.join(folder, NetworkCard.FILE)
        try:
            if card in SHIPPED_CARDS:
                shipped = importlib.resources.files("features.contracts") / "cards"
                content = (shipped / f"{card}.json").read_bytes()
            else:
                content = files.read_bytes(files.absolute(where))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise InputError(
                f"--network {folder}: there is no {where}; write one (docs/networks.md), or pass "
                f"--card with one of {', '.join(SHIPPED_CARDS)} for the files as published"
            ) from None
        network = cls(folder, NetworkCard.parse(content, where))
        network.card.check(where)
        network._require_files(where)
        return network

    @property
    def path(self) -> str:
        """The network itself: the folder of a SavedModel, or a file."""
        return self.folder if self.card.file == "." else files.join(self.folder, self.card.file)

    @property
    def kind(self) -> Literal["saved_model", "onnx", "tflite"]:
        """The format of the network, which its suffix says."""
        return _KINDS.get(self.path[self.path.rfind(".") :], "saved_model")

    @property
    def signature(self) -> str | None:
        """The signature of a SavedModel; None for other formats."""
        return self.card.signature if self.kind == "saved_model" else None

    def _require_files(self, where: str) -> None:
        is_folder = self.kind == "saved_model"
        named = {"file": files.join(self.path, SAVED_MODEL) if is_folder else self.path}
        if self.card.labels is not None:
            named["labels.file"] = files.join(self.folder, self.card.labels.file)
        for field, path in named.items():
            if not files.exists(path):
                raise InputError(
                    f"{where}: {field}: there is no {path}; correct the field, or put the "
                    f"network's files into {self.folder}"
                )

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The labels of the scores, with counts of zero; none for a network without scores.

        Raises:
          InputError: the file is no such table, or has an id twice.
        """
        ids, names = self._read_labels()
        return Vocabulary(tuple(ids), tuple(names), np.zeros(len(ids), np.int64), 1)

    def _read_labels(self) -> tuple[Sequence[str], Sequence[str]]:
        labels = self.card.labels
        if labels is None:
            return (), ()
        path = files.join(self.folder, labels.file)
        content = files.read_bytes(path)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = 1 + content.count(b"\n", 0, error.start)
            raise InputError(
                f"{path}: line {line} is not UTF-8: {error}; save the file as UTF-8"
            ) from error
        if not path.endswith(".csv"):
            names = text.splitlines()
            _require_unique(names, range(1, len(names) + 1), path)
            return names, names
        reader = csv.DictReader(io.StringIO(text))
        lines, rows = [], []
        for row in reader:
            lines.append(reader.line_num)
            rows.append(row)
        columns = list(rows[0]) if rows else []
        wanted = labels.name_column or (columns[0] if columns else "")
        for column in (wanted, labels.id_column or wanted):
            if column not in columns:
                raise InputError(
                    f"{path} has no column {column!r}, which the card names under labels; it has "
                    f"{', '.join(columns) or 'no rows'}"
                )
        ids = [row[labels.id_column or wanted] for row in rows]
        _require_unique(ids, lines, path)
        return ids, [row[wanted] for row in rows]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the weights and of the fields of the card that decide what comes out."""
        paths = [self.path]
        if self.kind == "onnx":  # its weights may lie beside it
            paths = files.list_files(files.parent(self.path), f"{self.path.rpartition('/')[2]}*")
        elif self.kind == "saved_model":
            paths = [
                files.join(self.path, SAVED_MODEL),
                *files.list_files(self.path, "variables/variables.data-*"),
            ]
        card = self.card
        return fingerprint(
            [
                files.digest(paths),
                card.signature,
                to_plain(card.waveform),
                to_plain(card.patches),
                to_plain(card.outputs),
            ]
        )

    def embedding_front_end(self, num_units: int) -> FrontEnd:
        """From a soundtrack to the stored embeddings of the network.

        Args:
          num_units: values of an embedding.
        """
        return dataclasses.replace(
            self.card.front_end,
            storage=PatchStorage(dtype="float16"),
            embedding=Embedding(
                network=self.fingerprint,
                patches=self.card.front_end.fingerprint,
                units=num_units,
            ),
        )
