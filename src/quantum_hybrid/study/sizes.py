"""The numbers of qubits and layers that `scaling` varies, and their limits.

Without torch, so that the command line shows them at once.
"""

QUBITS = (2, 4, 8, 16, 32, 64, 100)
LAYERS = (1, 2, 3, 4, 5)
LAYERS_OF_WIDTHS, QUBITS_OF_DEPTHS = 3, 8
"""The other number while one is varied: those of the student."""
MOST_QUBITS, MOST_LAYERS = 128, 6
