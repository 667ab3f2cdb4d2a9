"""The graph of tensorflow-transform, written also to stores that TensorFlow does not open."""

from typing import Any

import apache_beam as beam

from features.storage import files

# What tensorflow-transform writes into its folder.
PARTS = ("transform_fn", "transformed_metadata")


def write_graph(transform: Any, folder: str, temp_dir: str) -> beam.PCollection:
    """Write the graph that an analysis gives.

    Args:
      transform: of `AnalyzeDataset`.
      folder: for the graph.
      temp_dir: as of `launch.temporary_folder`.

    Returns:
      One element: a folder with the graph, which TensorFlow opens.
    """
    import tensorflow_transform.beam as tft_beam  # seconds, which `delete_graph` need not take

    opened = folder
    if not files.opens_in_tensorflow(folder):
        opened = files.join(temp_dir, "graph")
    written = transform | "WriteTransform" >> tft_beam.WriteTransformFn(opened)
    return written | "Copy" >> beam.Map(_copy, opened, folder)


def _copy(written: None, source: str, target: str) -> str:
    del written  # only says that the graph is there
    if source != target:
        for name in sorted(files.list_names(source)):
            files.write_bytes(files.join(target, name), files.read_bytes(files.join(source, name)))
    return source


def delete_graph(folder: str) -> None:
    """Delete a graph; other files of the folder are kept."""
    for part in PARTS:
        files.delete_folder(files.join(folder, part))
