"""The stages of `evaluation.score_videos`."""
