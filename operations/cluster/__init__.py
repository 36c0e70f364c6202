"""Certificates, scheduler and workers of a cluster (docs/cluster.md)."""
