"""The models, one per file; the file's name is the value of ``train.model`` (docs/extending.md)."""
