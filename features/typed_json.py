"""JSON files as frozen dataclasses: parsing with checked types, and writing.

`Document` is the base class of every JSON file that a job leaves on disk. A field that is missing
or has another type is a `ContractError` that names the file, the field and the command to run.
Fields that the dataclass does not have are ignored, so that a newer version may add some.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec

from features.errors import ContractError

FORMAT_VERSION = 1
# Metadata of a field that is left out of the file where the field is None, instead of being null.
OMIT_NONE: Final[Mapping[str, bool]] = {"omit_none": True}
# The same for a field that has its default, so that the file is as it was before there was a field.
OMIT_DEFAULT: Final[Mapping[str, bool]] = {"omit_default": True}

_Value = TypeVar("_Value")
_PLACE = r"(?: - at `\$\.?(?P<place>.*)`)?"
_MISSING = re.compile(r"Object missing required field `(?P<field>.*?)`" + _PLACE, re.DOTALL)
_MISTYPED = re.compile(r"(?P<problem>.*?)" + _PLACE, re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """Base class of a JSON file; the fields are its keys, in the order of the file.

    Attributes:
      FILE: name of the file.
      MAKER: command that writes the file.
      VERSION: value of the key `format_version`, which comes first; None for a file without it.
      INDENT: as in `json.dumps`.
      END: text after the JSON.
    """

    FILE: ClassVar[str]
    MAKER: ClassVar[str]
    VERSION: ClassVar[int | None] = FORMAT_VERSION
    INDENT: ClassVar[int | None] = 2
    END: ClassVar[str] = "\n"

    @classmethod
    def from_json(cls, content: bytes | str, where: str) -> Self:
        """Parse the content of a file.

        Args:
          content: JSON.
          where: path of the file, for messages.

        Raises:
          ContractError: the content is not such a document, or is of another format version.
        """
        cure = f"delete {where} and run `{cls.MAKER}` again"
        try:
            document = json.loads(content)
        except ValueError as error:
            raise ContractError(f"{where} is not JSON ({error}); {cure}") from error
        if not isinstance(document, dict):
            found = type(document).__name__
            raise ContractError(f"{where} is not a JSON object but a {found}; {cure}")
        version = document.get("format_version")
        if cls.VERSION is not None and version != cls.VERSION:
            raise ContractError(
                f"{where}: format_version is {version!r}, this version reads {cls.VERSION}; {cure}"
            )
        return convert(document, cls, where=where, cure=cure)

    def to_json(self) -> bytes:
        """The content of the file."""
        document = self._to_plain()
        if self.VERSION is not None:
            document = {"format_version": self.VERSION, **document}
        text = json.dumps(document, indent=self.INDENT, ensure_ascii=False)
        return (text + self.END).encode()

    def _to_plain(self) -> dict[str, Any]:
        """The keys of the file in order, without the version."""
        return to_plain(self)


def convert(value: Any, to: type[_Value], *, where: str, cure: str) -> _Value:
    """Convert what `json.loads` returns to a dataclass, checking the type of every field.

    Args:
      value: dicts, lists, strings, numbers, booleans and None.
      to: a dataclass, of which fields may be dataclasses, tuples, mappings, literals and enums.
      where: path of the file, for messages.
      cure: what to do about a wrong value, for messages.

    Raises:
      ContractError: a field is missing or of another type.
    """
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise ContractError(f"{where}: {_describe(str(error))}; {cure}") from error


def to_plain(value: Any) -> Any:
    """Convert dataclasses, mappings and sequences to what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            field.name: to_plain(content)
            for field, content in fields
            if not _is_omitted(field, content)
        }
    if isinstance(value, Mapping):
        return {key: to_plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(content) for content in value]
    return value


def _is_omitted(field: dataclasses.Field, content: Any) -> bool:
    if content is None and field.metadata.get("omit_none"):
        return True
    if not field.metadata.get("omit_default"):
        return False
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return bool(content == default)


def _describe(message: str) -> str:
    """The message of msgspec with the path of the field in front."""
    if missing := _MISSING.fullmatch(message):
        place = f"{missing['place']}." if missing["place"] else ""
        return f"field {place}{missing['field']} is missing"
    mistyped = _MISTYPED.fullmatch(message)
    assert mistyped is not None  # the pattern matches every text
    problem = mistyped["problem"]
    problem = problem[:1].lower() + problem[1:]
    return f"field {mistyped['place']}: {problem}" if mistyped["place"] else problem
