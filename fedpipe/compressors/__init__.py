"""How a client makes its update smaller, one way per file; the file's name is the value of ``train.compressor``."""
