"""`speeds.json`: how fast networks are trained and applied, each with its machine, date and source.

`pipelines.plan` predicts from such a table; `training.describe` adds what it measures.
"""

import dataclasses
import datetime
import platform
import re
from pathlib import Path
from typing import ClassVar, Literal

from features.contracts.documents import Precision
from features.typed_json import OMIT_DEFAULT, Document

CPU = "cpu"
_MODEL_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkJob:
    """What a speed is of.

    Attributes:
      job: whether the network is applied to patches, or trained on them.
      network: architecture, as in `training.describe`.
      width: of the network, 1 for that of the paper.
      precision: of the layers.
      device: `cpu`, or the name of a GPU.
    """

    job: Literal["scoring", "training"]
    network: str
    width: float = dataclasses.field(default=1.0, metadata=OMIT_DEFAULT)
    precision: Precision
    device: str = CPU

    def __str__(self) -> str:
        width = "" if self.width == 1 else f" of width {self.width:g}"
        return f"{self.job}, {self.network}{width}, {self.precision}, {self.device}"

    def same_job(self, other: "NetworkJob") -> bool:
        """Whether both have these fields in common, whatever fields a subclass adds."""
        names = [field.name for field in dataclasses.fields(NetworkJob)]
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed(NetworkJob):
    """How fast one core or one GPU does a job.

    Attributes:
      patches_per_second: of one core, or of one GPU.
      machine: that it was measured on.
      as_of: date of the measurement, ISO 8601.
      source: what measured it.
    """

    patches_per_second: float
    machine: str
    as_of: str
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speeds(Document):
    """`speeds.json`; of two rows about the same job, the later counts."""

    FILE: ClassVar[str] = "speeds.json"
    MAKER: ClassVar[str] = "python -m training.describe"

    rows: tuple[Speed, ...]

    def find(self, job: NetworkJob) -> Speed | None:
        """The speed of a job; None if the table does not have it."""
        return next((row for row in reversed(self.rows) if row.same_job(job)), None)

    def add(self, measured: Speed) -> "Speeds":
        """The table with a row that replaces those about the same job."""
        kept = (row for row in self.rows if not row.same_job(measured))
        return Speeds(rows=(*kept, measured))


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor of this machine."""
    found = _MODEL_NAME.search(cpuinfo.read_text()) if cpuinfo.exists() else None  # Linux
    return found[1].strip() if found else platform.machine()


def today() -> str:
    """The date in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
