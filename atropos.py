"""The seed's entry point: `python atropos.py process` (see README.md)."""

from quantum_hybrid.cli import main

raise SystemExit(main())
