"""Prices of computing and storage in dollars.

The table `prices.json` beside this file holds list prices without discounts, each with its source
and date. `--prices` reads another file of the same form.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from features.errors import InputError
from features.storage import files
from features.typed_json import convert

_DEFAULT = Path(__file__).with_name("prices.json")


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
class Storage:
    """Price of a GB (10^9 bytes) in an object store for a month, in dollars."""

    gb_month: float
    as_of: str
    source: str


@dataclasses.dataclass(frozen=True)
class Prices:
    """Platforms by name, and storage."""

    platforms: Mapping[str, Platform]
    storage: Storage


def read_prices(path: str | None) -> Prices:
    """Read a table of prices.

    Args:
      path: of the file; None for `prices.json` beside this file.

    Raises:
      InputError: the file does not exist, or is not a table of prices.
    """
    path = path or str(_DEFAULT)
    cure = f"begin with a copy of {_DEFAULT}"
    try:
        table = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        raise InputError(f"--prices: there is no file {path}") from None
    except ValueError as error:
        raise InputError(f"--prices {path} is not a table of prices ({error}); {cure}") from error
    return convert(table, Prices, where=f"--prices {path}", cure=cure)
