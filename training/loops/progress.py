"""Progress of a training run: a line on the terminal, and curves for TensorBoard."""

import time
from typing import Any

import tensorflow as tf

from features.storage import files
from features.terminal import StatusLine, duration
from training.loops.validation import ValidationMetrics

EVENTS_FOLDER = "events"


class ProgressLine:
    """The steps done, the rate and the time left.

    The rate excludes the first step, which builds the graph, and the first step after a pause.
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
        """Do not count the time until the next step is done as training."""
        self._step_start = None

    @property
    def patches_per_second(self) -> float:
        """The mean rate of training; 0 before the second step."""
        return self._patches / self._seconds if self._seconds else 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to show the line again."""
        return self._line.due

    def show(self, step: int, loss: float, validation: ValidationMetrics | None) -> None:
        """Show a step, with the mAP of the last validation."""
        rate = self.patches_per_second
        parts = [f"step {step}/{self._last_step}", f"loss {loss:.5f}", f"{rate:.0f} patches/s"]
        if validation is not None:
            parts.append(f"mAP {validation.mean_average_precision:.3f}")
        if rate and step < self._last_step:
            left = (self._last_step - step) * self._batch_size / rate
            parts.append(f"{duration(left)} left")
        self._line.show("  ".join(parts))

    def close(self) -> None:
        """End the line, so that other output starts on a new line."""
        self._line.close()


class Curves:
    """Scalars for TensorBoard; those of steps are means since the last point of the curve."""

    def __init__(self, output: str, *, kept: bool = True):
        self._events = (
            tf.summary.create_file_writer(files.join(output, EVENTS_FOLDER))
            if kept
            else tf.summary.create_noop_writer()
        )
        self._sums: dict[str, Any] = {}
        self._num_steps = 0

    def add_step(self, **metrics: float | tf.Tensor) -> None:
        """Add the metrics of a step. Tensors stay on their device, as fetching would stall it."""
        self._sums = {name: self._sums.get(name, 0) + metrics[name] for name in metrics}
        self._num_steps += 1

    def write_steps(self, step: int, **more: float) -> dict[str, float]:
        """Write the means since the last point, and `more`; returns the means."""
        means = {name: float(total) / self._num_steps for name, total in self._sums.items()}
        self._sums, self._num_steps = {}, 0
        with self._events.as_default(step):
            for name, value in {**means, **more}.items():
                tf.summary.scalar(name, value)
        self._events.flush()
        return means

    def write_validation(self, step: int, metrics: ValidationMetrics) -> None:
        """Write the metrics of a validation."""
        with self._events.as_default(step):
            tf.summary.scalar("validation/loss", metrics.loss)
            tf.summary.scalar("validation/accuracy", metrics.accuracy)
            tf.summary.scalar("validation/mAP", metrics.mean_average_precision)
        self._events.flush()

    def close(self) -> None:
        """Write buffered scalars, and close the file."""
        self._events.close()
