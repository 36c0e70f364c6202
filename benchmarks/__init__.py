"""Measured comparisons, runnable by anyone: ``make bench``."""
