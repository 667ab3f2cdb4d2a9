"""Fingerprints of settings, plans and rows: equal values have equal fingerprints."""

import dataclasses
import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """16 hex digits that identify a JSON-like value or a dataclass."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
