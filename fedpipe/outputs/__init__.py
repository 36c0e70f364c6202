"""A stage's outputs: one writer at a time, all in place together or none, and back again when DVC deleted them."""
