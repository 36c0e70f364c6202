"""The algorithms, one per file; the file's name is the value of ``train.algorithm`` (docs/extending.md)."""
