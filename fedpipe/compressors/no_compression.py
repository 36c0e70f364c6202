"""A client sends its update as float32; docs/extending.md has the functions of a compressor."""

compress = None
