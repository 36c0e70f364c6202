"""Metrics of predictions, one per file; the file's name is an element of ``train.metrics``."""
