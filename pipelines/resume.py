"""What makes a shard's work resumable: the sidecar that says it is done, and nothing left over.

A sidecar is written last and names the fingerprint of the plan that it fulfils. Files that belong
to no shard of the present plan are leftovers of another, and would be read as part of this one.
"""

import json
from collections.abc import Iterable
from typing import Any

from features import storage
from pipelines.sharding import ShardKey

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
    storage.delete(path + SIDECAR_SUFFIX)


def remove_leftovers(output: str, keys: Iterable[ShardKey], kinds: Iterable[str]) -> None:
    """Remove shards of these kinds that are not in the plan, of the splits that are in it.

    Args:
      output: a folder of <split>/<group>/<kind>-00000-of-00000.<suffix>.
      keys: the shards in the plan.
      kinds: of files that the job writes.
    """
    keys, kinds = list(keys), list(kinds)
    wanted = {storage.join(output, key.path(kind)) for key in keys for kind in kinds}
    number = "[0-9]" * 5
    for split in {key.split for key in keys}:
        for kind in kinds:
            present = storage.list_files(output, f"{split}/*/{kind}-{number}-of-{number}.*")
            storage.delete_files([path for path in present if path.rsplit(".", 1)[0] not in wanted])


def remove_partial_files(output: str) -> None:
    """Remove what killed workers left half written; after the end of a job that went well."""
    storage.delete_files(storage.list_partial_files(output, "*/*"))
