"""Runs a learning process on a TFF worker."""
