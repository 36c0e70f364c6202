"""Serving the champion over HTTP: the command, and the application that answers."""
