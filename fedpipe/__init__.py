"""The library: federated learning whose results are the same bits on every machine. Importing it does no work."""
