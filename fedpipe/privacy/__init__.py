"""Differential privacy: which combinations it takes, how noise is drawn, and what epsilon a training has spent."""
