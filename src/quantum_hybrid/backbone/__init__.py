"""The backbone: a pruned and adapted causal language model that computes hidden states."""

from quantum_hybrid.backbone.adapters import adapt, merge_adapters
from quantum_hybrid.backbone.anatomy import BaseModel, detach_final_norm, load_base_model
from quantum_hybrid.backbone.embedded import embedded_tokenizer, prepare_embedded
from quantum_hybrid.backbone.features import FeatureStore
from quantum_hybrid.backbone.pruning import drop_layers

__all__ = [
    "BaseModel",
    "FeatureStore",
    "adapt",
    "detach_final_norm",
    "drop_layers",
    "embedded_tokenizer",
    "load_base_model",
    "merge_adapters",
    "prepare_embedded",
]
