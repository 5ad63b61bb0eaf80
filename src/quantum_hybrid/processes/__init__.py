"""The processes of a data-parallel run: their launch and their communication."""
