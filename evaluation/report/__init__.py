"""The pages that show an evaluation."""
