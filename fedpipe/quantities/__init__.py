"""How many samples each client gets, one way per file. ``partition.quantity`` names the file (docs/partitioning.md)."""
