"""How numbers of samples are divided and rounded, for all schemes."""
