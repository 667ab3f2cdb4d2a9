"""The clock of a medium: where a late start and gaps are filled with silence."""

from collections.abc import Iterable

import av

# A larger difference between the clock and the samples is a gap: containers round timestamps
# (Matroska to 1 ms) and decoders drop their delay (up to 50 ms). A difference beyond the second
# limit is a clock that was reset.
TOLERANCE_SECONDS, _MAX_GAP_SECONDS = 0.1, 600.0
# FFmpeg's names of containers that store timestamps. For other containers FFmpeg counts samples,
# and miscounts if the sample rate changes.
_WITH_CLOCK = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg", "flv", "asf", "avi", "mpegts"}


class MediumClock:
    """Compares the timestamps of a medium with the sound and silence so far.

    Attributes:
      is_present: whether the container stores timestamps.
      origin: time of the start of the medium.
      seconds: length of the sound and silence before the next frame.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        self.is_present = container.format.name in _WITH_CLOCK
        self.origin = (container.start_time or 0) / av.time_base
        self.seconds = 0.0

    def lateness(self, time: float | None) -> float:
        """Seconds that a frame is later than the end of what came before it."""
        if not self.is_present or time is None:
            return 0.0
        return time - self.origin - self.seconds

    def advance(self, frames: Iterable[av.AudioFrame]) -> bool:
        """Go to the end of frames, unless one of them is late; returns whether it went there."""
        end = self.origin + self.seconds
        for frame in frames:
            # Not by `lateness`, whose call would take as long as all the rest.
            time = frame.time if self.is_present else None
            if time is not None and abs(time - end) > TOLERANCE_SECONDS:
                return False
            end += frame.samples / frame.sample_rate
        self.seconds = end - self.origin
        return True

    def catch_up(self, late: float) -> float:
        """Follow the clock of a late frame; returns the seconds of silence before the frame."""
        if abs(late) > _MAX_GAP_SECONDS or late < -TOLERANCE_SECONDS:
            self.origin += late  # the clock was reset, as in joined recordings
        elif late > TOLERANCE_SECONDS:
            self.seconds += late
            return late
        return 0.0
