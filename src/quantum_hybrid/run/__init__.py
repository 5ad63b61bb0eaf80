"""One distillation run: its directory, its steps and its trackers."""
