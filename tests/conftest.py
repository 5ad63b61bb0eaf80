"""Shapes and dtypes written in annotations are checked while the tests run, and only then."""

from __future__ import annotations

import os

# Small matrices on few cores: a second thread costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing here may ask a hub for a model.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

from jaxtyping import install_import_hook

CHECKED = ("circuit", "student", "evaluation", "training")
install_import_hook([f"quantum_hybrid.{name}" for name in CHECKED], "beartype.beartype")
