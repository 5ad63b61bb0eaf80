"""A run as an Atropos environment: the only importer of atroposlib."""
