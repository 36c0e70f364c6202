"""Training over several machines with Dask (docs/cluster.md). Only this package imports Dask, which is optional."""
