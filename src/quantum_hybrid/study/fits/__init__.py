"""Arms in training: their common start, their tuning, and the fits of a regime."""
