"""The record of one patch: a `tf.train.Example`, written and read without TensorFlow.

Importing TensorFlow costs a worker 5 s and 550 MB. The message is declared here to protobuf
instead, with the same fields as TensorFlow's. The patch is a single bytes feature (4.5 us to
encode; a list of floats takes 1 ms).

    video_id       bytes, 1        id of the soundtrack in the manifest
    patch          bytes, 1        [patch frames, mel bands] of the stored dtype, row by row; or
                                   [units], an embedding
    start_seconds  float, 1        start of the patch in the soundtrack
    labels         int64, 0..n     label indices, rising, each once

Records of a training shard are padded to one length, by a field that readers of the message skip,
so that the place of a record in its file is known without reading the file.
"""

import dataclasses
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VIDEO_ID = "video_id"
PATCH = "patch"
START_SECONDS = "start_seconds"
LABELS = "labels"

# The padding is field 15 of the message, which `tf.train.Example` does not have: its tag, its
# length in four bytes whatever the length is, and zeros.
MIN_PADDING = 5
_PADDING_TAG = 15 << 3 | 2


@dataclasses.dataclass(frozen=True)
class PatchRecord:
    """A patch as stored; `patch` has the bytes of the stored array."""

    video_id: str
    patch: bytes
    start_seconds: float
    labels: tuple[int, ...]


def encode(record: PatchRecord) -> bytes:
    """Serialise a record; the same record gives the same bytes."""
    example = _Example()
    feature = example.features.feature
    feature[VIDEO_ID].bytes_list.value.append(record.video_id.encode())
    feature[PATCH].bytes_list.value.append(record.patch)
    feature[START_SECONDS].float_list.value.append(record.start_seconds)
    feature[LABELS].int64_list.value.extend(record.labels)
    # A map has no order of its own.
    return example.SerializeToString(deterministic=True)


def decode(serialized: bytes) -> PatchRecord:
    """Parse a record.

    Raises:
      ValueError: the bytes are not such a record.
    """
    try:
        feature = _Example.FromString(serialized).features.feature
        return PatchRecord(
            video_id=feature[VIDEO_ID].bytes_list.value[0].decode(),
            patch=feature[PATCH].bytes_list.value[0],
            start_seconds=feature[START_SECONDS].float_list.value[0],
            labels=tuple(feature[LABELS].int64_list.value),
        )
    except Exception as error:
        raise ValueError(f"not a patch record ({len(serialized)} bytes): {error}") from error


def pad(serialized: bytes, num_bytes: int) -> bytes:
    """Pad a serialised record, which has no padding, to a length.

    Raises:
      ValueError: it is too long to get the `MIN_PADDING` bytes that padding takes.
    """
    zeros = num_bytes - len(serialized) - MIN_PADDING
    if zeros < 0:
        raise ValueError(f"a record of {len(serialized)} bytes cannot be padded to {num_bytes}")
    length = (zeros & 127 | 128, zeros >> 7 & 127 | 128, zeros >> 14 & 127 | 128, zeros >> 21)
    return b"".join((serialized, bytes((_PADDING_TAG, *length)), bytes(zeros)))


def strip_padding(serialized: bytes) -> bytes:
    """The record as `encode` made it; one without padding is returned unchanged."""
    # Field 1 of the message, the features, is the whole record: a tag, a length, the content.
    size, position, shift = 0, 1, 0
    while position < len(serialized):
        byte = serialized[position]
        size |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
    return serialized[: position + size]


def _declare_example() -> Any:
    """Declare `tensorflow.Example` in a separate pool, so that TensorFlow may be loaded as well."""
    file = descriptor_pb2.FileDescriptorProto(
        name="soundtrack/example.proto", package="tensorflow", syntax="proto3"
    )
    field_type = descriptor_pb2.FieldDescriptorProto

    def message(parent: Any, name: str, *fields: tuple[str, int, int, str | None]) -> Any:
        added = parent.add(name=name)
        for number, (field_name, label, kind, type_name) in enumerate(fields, start=1):
            added.field.add(
                name=field_name, number=number, label=label, type=kind, type_name=type_name
            )
        return added

    one, many = field_type.LABEL_OPTIONAL, field_type.LABEL_REPEATED
    nested = field_type.TYPE_MESSAGE
    top = file.message_type
    message(top, "BytesList", ("value", many, field_type.TYPE_BYTES, None))
    message(top, "FloatList", ("value", many, field_type.TYPE_FLOAT, None))
    message(top, "Int64List", ("value", many, field_type.TYPE_INT64, None))
    feature = message(
        top,
        "Feature",
        ("bytes_list", one, nested, ".tensorflow.BytesList"),
        ("float_list", one, nested, ".tensorflow.FloatList"),
        ("int64_list", one, nested, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    entry_type = ".tensorflow.Features.FeatureEntry"
    features = message(top, "Features", ("feature", many, nested, entry_type))
    entry = message(
        features.nested_type,
        "FeatureEntry",
        ("key", one, field_type.TYPE_STRING, None),
        ("value", one, nested, ".tensorflow.Feature"),
    )
    entry.options.map_entry = True
    message(top, "Example", ("features", one, nested, ".tensorflow.Features"))

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _declare_example()
