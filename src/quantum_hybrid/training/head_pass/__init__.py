"""Losses of the hybrid head and their gradients in one pass over the vocabulary."""
