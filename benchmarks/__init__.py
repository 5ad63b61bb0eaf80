"""Measured speeds: ``make bench``."""
