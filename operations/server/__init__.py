"""A tracking server for a team: MLflow on PostgreSQL, with or without users."""
