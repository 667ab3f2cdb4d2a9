"""Moved to `features.typed_json`; this name stays until its last user has followed."""

from features.typed_json import FORMAT_VERSION, OMIT_NONE, Document, convert, to_plain

__all__ = ["FORMAT_VERSION", "OMIT_NONE", "Document", "convert", "to_plain"]
