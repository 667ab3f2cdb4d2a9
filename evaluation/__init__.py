"""Scoring of soundtracks and the metrics of section 3.2."""

import features  # noqa: F401 - refuses other Pythons before Beam is looked for
