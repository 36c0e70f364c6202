"""Differential privacy: which combinations it takes, how noise is drawn, and the epsilon that a training has spent."""
