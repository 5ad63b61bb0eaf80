"""The command line, the only place that knows flags; one file a verb.

Everything a user can get wrong is checked here, before torch is imported, and answered with one
line and exit status 2.
"""

from quantum_hybrid.cli.main import main

__all__ = ["main"]
