"""Tables of trainings, published ones and a user's own sweeps: every cell a DVC experiment and an MLflow run."""
