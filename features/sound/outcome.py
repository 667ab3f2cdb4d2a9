"""Outcomes of soundtracks, and the error that carries an outcome."""

import enum


class Outcome(enum.StrEnum):
    """The result of decoding one soundtrack. Every soundtrack of a job has exactly one outcome."""

    OK = "ok"
    OK_PARTIAL = "ok_partial"  # truncated, and the part before the cut was asked for
    NOT_FOUND = "not_found"  # no such file or object
    PERMISSION_DENIED = "permission_denied"
    UNREADABLE = "unreadable"  # another error of the filesystem: a folder, a broken disk
    EMPTY_FILE = "empty_file"  # zero bytes
    TRUNCATED = "truncated"  # ends before the length that its header declares
    CORRUPT = "corrupt"  # no container that FFmpeg knows, or too many undecodable packets
    UNSUPPORTED_CONTAINER = "unsupported_container"  # not on our list; the detail is its name
    UNSUPPORTED_CODEC = "unsupported_codec"  # FFmpeg has no decoder for the audio stream
    NO_AUDIO_STREAM = "no_audio_stream"
    NONFINITE_SAMPLES = "nonfinite_samples"  # NaN, infinity, or samples beyond any full scale
    NONFINITE_OUTPUTS = "nonfinite_outputs"  # a network gives NaN or more than its type can hold
    TOO_SHORT = "too_short"  # decoded to its end, and shorter than one patch
    TIMEOUT = "timeout"  # not decoded within the time limit
    DECODER_CRASHED = "decoder_crashed"  # the process that decoded it ended or ran out of memory
    FORGOTTEN = "forgotten"  # not decoded, since `pipelines.forget` removed it


class AudioError(Exception):
    """A soundtrack that cannot be used: its outcome, and the message of the library."""

    def __init__(self, outcome: Outcome, detail: str):
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.outcome}: {self.detail}"


# Outcomes that leave patches; all others are rejects.
WRITTEN = frozenset({Outcome.OK, Outcome.OK_PARTIAL})
