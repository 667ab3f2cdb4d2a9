"""What became of a soundtrack, and the error that says so."""

import enum


class Outcome(enum.StrEnum):
    """What became of one soundtrack. Every soundtrack of a job has exactly one."""

    OK = "ok"
    OK_PARTIAL = "ok_partial"  # truncated, and the part before the cut was wanted
    NOT_FOUND = "not_found"  # no such file or object
    PERMISSION_DENIED = "permission_denied"
    UNREADABLE = "unreadable"  # the filesystem says no in another way: a folder, a broken disk
    EMPTY_FILE = "empty_file"  # zero bytes
    TRUNCATED = "truncated"  # ends before the length that its header declares
    CORRUPT = "corrupt"  # no container that we open, or too many undecodable packets
    UNSUPPORTED_CODEC = "unsupported_codec"  # FFmpeg has no decoder for the audio stream
    NO_AUDIO_STREAM = "no_audio_stream"
    NONFINITE_SAMPLES = "nonfinite_samples"  # NaN, infinity, or samples beyond any full scale
    TOO_SHORT = "too_short"  # decoded well, and shorter than one patch
    TIMEOUT = "timeout"  # not decoded within the time limit
    DECODER_CRASHED = "decoder_crashed"  # the process that decoded it was killed by a signal


class AudioError(Exception):
    """A soundtrack that cannot be used: the outcome, and the words of the library."""

    def __init__(self, outcome: Outcome, detail: str):
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.outcome}: {self.detail}"


# Outcomes that leave patches; all others are rejects.
WRITTEN = frozenset({Outcome.OK, Outcome.OK_PARTIAL})
