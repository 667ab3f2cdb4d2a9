"""Beam jobs that turn labelled media into data sets and features."""

import features  # noqa: F401 - refuses other Pythons before Beam is looked for
