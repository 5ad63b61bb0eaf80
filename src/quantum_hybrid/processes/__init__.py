"""The processes of a data-parallel run, and what they say to each other."""
