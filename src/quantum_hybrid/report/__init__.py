"""Reports of a run: curves, summary table, page of groups. Nothing here imports torch."""
