"""How numbers of samples are divided and rounded: what the schemes share."""
