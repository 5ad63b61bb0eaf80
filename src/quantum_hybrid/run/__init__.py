"""One distillation run: what it opens, trains, tracks and leaves behind."""
