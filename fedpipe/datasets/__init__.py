"""Data sets: where they come from, and the files in which they are kept."""
