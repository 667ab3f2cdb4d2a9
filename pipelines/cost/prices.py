"""What computing and storing cost in dollars, by a table that anybody can replace.

The table `prices.json` beside this file holds list prices without discounts; each row says where it
is from and of what date. Another file of the same form is given with `--prices`.
"""

import dataclasses
import json
from pathlib import Path

from features.errors import InputError
from features.storage import files

_OURS = Path(__file__).with_name("prices.json")


@dataclasses.dataclass(frozen=True)
class Platform:
    """Machines to be rented.

    Attributes:
      vcpu_hour: dollars for a virtual CPU, an hour.
      gb_hour: dollars for a GB of memory, an hour.
      gb_per_vcpu: memory that comes with a virtual CPU.
      as_of, source: the date of the prices, and where they are from.
    """

    vcpu_hour: float
    gb_hour: float
    gb_per_vcpu: float
    as_of: str
    source: str

    @property
    def dollars_per_core_hour(self) -> float:
        """A virtual CPU with its memory."""
        return self.vcpu_hour + self.gb_per_vcpu * self.gb_hour


@dataclasses.dataclass(frozen=True)
class Storage:
    """What a GB (10^9 bytes) in an object store costs a month, in dollars."""

    gb_month: float
    as_of: str
    source: str


@dataclasses.dataclass(frozen=True)
class Prices:
    """Platforms by name, and storage."""

    platforms: dict[str, Platform]
    storage: Storage


def read_prices(path: str | None) -> Prices:
    """The prices of a file, or ours.

    Raises:
      InputError: the file is not there, or is no table of prices.
    """
    try:
        table = json.loads(files.read_bytes(path or str(_OURS)))
        return Prices(
            {name: Platform(**row) for name, row in table["platforms"].items()},
            Storage(**table["storage"]),
        )
    except FileNotFoundError:
        raise InputError(f"--prices: there is no file {path}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"--prices {path}: is no table of prices ({error!r}); begin with a copy of {_OURS}"
        ) from error
