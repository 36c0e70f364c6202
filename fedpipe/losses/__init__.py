"""The losses, one per file; the file's name is the value of ``train.loss`` (docs/extending.md)."""
