"""Locks, signals and child processes: the parts of the operating system that several packages need."""
