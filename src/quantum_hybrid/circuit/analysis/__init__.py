"""What a circuit is like: diagnostics, expressibility, gradients, spectrum, its polynomial."""
