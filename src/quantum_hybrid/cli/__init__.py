"""The command line, with one module per verb. Only this package knows flags.

A setting that is wrong is reported before torch is imported: one line, exit status 2.
"""

from quantum_hybrid.cli.main import main

__all__ = ["main"]
