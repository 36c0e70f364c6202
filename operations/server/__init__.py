"""A tracking server for a team: MLflow on PostgreSQL."""
