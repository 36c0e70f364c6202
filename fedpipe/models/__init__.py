"""The models, their layers and the files of their weights."""
