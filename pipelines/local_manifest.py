"""A manifest that is read whole in this process, for commands that need no Beam job."""

import pyarrow as pa

from pipelines.manifest import SCHEMA, ManifestFormat, ReadManifest, divide, find_manifests
from pipelines.rejects import Reject


def read_manifest(pattern: str) -> tuple[pa.Table, list[Reject]]:
    """The videos of a manifest with our column names, of `manifest.SCHEMA`, and its rejects.

    Raises:
      InputError: it cannot be read, or has not the columns.
    """
    layout = ManifestFormat()
    batches: list[pa.RecordBatch] = []
    rejects: list[Reject] = []
    for path in find_manifests(pattern, layout):
        for piece in divide(path):
            for found in ReadManifest(layout).process(piece):
                if isinstance(found, pa.RecordBatch):
                    batches.append(found)
                else:
                    rejects.append(found.value)
    return pa.Table.from_batches(batches, SCHEMA), rejects
