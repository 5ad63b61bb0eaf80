"""What people read of a run: curves, tables, pages; made from rows of numbers, without torch."""
