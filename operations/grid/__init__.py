"""Grids of trainings on the same clients, each a table and a picture: attacks and defences, or algorithms."""
