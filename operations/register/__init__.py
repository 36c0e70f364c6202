"""Command register: the evaluated model -> MLflow's model registry, as challenger."""
