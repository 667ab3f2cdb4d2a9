"""What every job must agree on: the front end, the records, the labels, the contracts on disk."""
