"""Partition schemes, one per file: who gets which samples. ``partition.scheme`` names the file (docs/extending.md)."""
