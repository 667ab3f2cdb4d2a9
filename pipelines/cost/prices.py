"""Prices of computing and storage in dollars.

The table `prices.json` beside this file holds list prices without discounts, each with its source
and date. `--prices` reads another file of the same form.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from features.errors import InputError
from features.storage import files
from features.typed_json import convert

_DEFAULT = Path(__file__).with_name("prices.json")
_CURE = f"begin with a copy of {_DEFAULT}"


@dataclasses.dataclass(frozen=True)
class Platform:
    """Rented machines.

    Attributes:
      vcpu_hour: dollars for a virtual CPU for an hour.
      gb_hour: dollars for a GB of memory for an hour.
      gb_per_vcpu: memory of a virtual CPU.
      as_of, source: date and source of the prices.
    """

    vcpu_hour: float
    gb_hour: float
    gb_per_vcpu: float
    as_of: str
    source: str

    @property
    def dollars_per_core_hour(self) -> float:
        """Price of a virtual CPU with its memory for an hour."""
        return self.vcpu_hour + self.gb_per_vcpu * self.gb_hour


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Price of a GPU for an hour, with its share of the machine that it is in, in dollars."""

    hour: float
    as_of: str
    source: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """Price of a GB (10^9 bytes) in an object store for a month, in dollars."""

    gb_month: float
    as_of: str
    source: str


@dataclasses.dataclass(frozen=True)
class Prices:
    """Platforms by name, storage, and GPUs by name.

    Attributes:
      where: the file.
    """

    platforms: Mapping[str, Platform]
    storage: Storage
    gpus: Mapping[str, Gpu] = dataclasses.field(default_factory=dict)
    where: str = ""

    def require_gpu(self, name: str) -> None:
        """Make sure that the table has a GPU.

        Raises:
          InputError: it has not.
        """
        if name not in self.gpus:
            raise InputError(
                f"{self.where} has no price of the GPU {name!r}, but of: "
                f"{', '.join(self.gpus) or 'none'}; add "
                f'"gpus": {{"{name}": {{"hour": DOLLARS, "as_of": "YYYY-MM", "source": "..."}}}} '
                "to a copy and give it with --prices"
            )

    def list_older(self, year: int) -> Iterator[str]:
        """Name and date of each price that was quoted before a year."""
        rows: dict[str, Platform | Storage | Gpu] = {
            **self.platforms,
            "storage": self.storage,
            **self.gpus,
        }
        for name, row in rows.items():
            if row.as_of[:4] < str(year):
                yield f"{name} ({row.as_of})"


def read_prices(path: str | None) -> Prices:
    """Read a table of prices.

    Args:
      path: of the file; None for `prices.json` beside this file.

    Raises:
      InputError: the file does not exist, or is not a table of prices.
    """
    path = path or str(_DEFAULT)
    where = f"--prices {path}"
    try:
        table = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        raise InputError(f"--prices: there is no file {path}") from None
    except ValueError as error:
        raise InputError(f"{where} is not a table of prices ({error}); {_CURE}") from error
    prices = dataclasses.replace(convert(table, Prices, where=where, cure=_CURE), where=where)
    if not prices.platforms:
        raise InputError(f"{where} has no platform; {_CURE}")
    return prices
