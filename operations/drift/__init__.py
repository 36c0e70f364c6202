"""Drift: how batches of the pool that no committed training has seen differ from the data before them."""
