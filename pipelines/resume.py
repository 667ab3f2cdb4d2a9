"""What makes a shard's work resumable: the sidecar that says it is done, and nothing left over.

A sidecar is written last and names the fingerprint of the plan that it fulfils. Files that belong
to no shard of the present plan are leftovers of another, and would be read as part of this one.
"""

import json
from collections.abc import Collection
from typing import Any

from features import storage

SIDECAR_SUFFIX = ".json"


def find_sidecar(path: str) -> dict[str, Any] | None:
    """The sidecar of a shard, or None; its "plan" says which work it declares done.

    Args:
      path: of the shard, without suffix.
    """
    try:
        sidecar = json.loads(storage.read_bytes(path + SIDECAR_SUFFIX))
    except (FileNotFoundError, ValueError):  # not there, or not one of ours
        return None
    return sidecar if isinstance(sidecar, dict) and "plan" in sidecar else None


def write_sidecar(path: str, sidecar: dict[str, Any]) -> None:
    """Declare a shard's work done; `sidecar["plan"]` is the fingerprint of its plan."""
    text = json.dumps(sidecar, ensure_ascii=False)
    storage.write_bytes(path + SIDECAR_SUFFIX, text.encode())


def remove_sidecar(path: str) -> None:
    """Take back the declaration that a shard's work is done."""
    storage.delete([path + SIDECAR_SUFFIX])


def remove_leftovers(output: str, wanted: Collection[str]) -> None:
    """Remove the files of shards that are not in the plan, and what killed workers left half done.

    Args:
      output: a folder of <split>/<group>/<kind>-00000-of-00000.<suffix>.
      wanted: paths relative to it, without suffix, of the shards in the plan.
    """
    folder = storage.join(output, "*", "*")
    stale = [
        path
        for path in storage.list_files(storage.join(folder, "*-of-*"))
        if path.removeprefix(output).lstrip("/").rsplit(".", 1)[0] not in wanted
    ]
    storage.delete(stale + storage.list_partial_files(folder))
