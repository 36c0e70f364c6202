"""Shuts a server that listens on every interface in, so that only the process that started it reaches it."""
