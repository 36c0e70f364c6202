"""Incoming batches: data/incoming/ -> data/pool/ (fedpipe/datasets/pool.py), or data/rejected/ with the reason."""
