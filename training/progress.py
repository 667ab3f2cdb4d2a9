"""How far a training run is, on one line."""

import time

from features.terminal import StatusLine, duration


class ProgressLine:
    """How far a run is, how fast, and when it will be done.

    The rate leaves out the first step, which builds the graph, and whatever follows a pause.
    """

    def __init__(self, last_step: int, batch_size: int):
        self._line = StatusLine()
        self._last_step, self._batch_size = last_step, batch_size
        self._patches, self._seconds = 0, 0.0
        self._step_start: float | None = None

    def step_done(self) -> None:
        """Count a step."""
        now = time.monotonic()
        if self._step_start is not None:
            self._patches += self._batch_size
            self._seconds += now - self._step_start
        self._step_start = now

    def pause(self) -> None:
        """Do not count the time until the next step is done."""
        self._step_start = None

    @property
    def patches_per_second(self) -> float:
        """The mean rate of training; 0 before the second step."""
        return self._patches / self._seconds if self._seconds else 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to show something new."""
        return self._line.due

    def show(self, step: int, loss: float, mean_average_precision: float | None) -> None:
        """Show a step, with the mAP of the last validation."""
        rate = self.patches_per_second
        parts = [f"step {step}/{self._last_step}", f"loss {loss:.5f}", f"{rate:.0f} patches/s"]
        if mean_average_precision is not None:
            parts.append(f"mAP {mean_average_precision:.3f}")
        if rate and step < self._last_step:
            left = (self._last_step - step) * self._batch_size / rate
            parts.append(f"{duration(left)} left")
        self._line.show("  ".join(parts))

    def close(self) -> None:
        """Leave the line, so that what is printed next does not continue it."""
        self._line.close()
