"""Tracking: stages write journals (journal.py), a follower delivers them (delivery.py) to MLflow (mlflow_store.py).

The only package that imports MLflow, and never in a process that trains.
"""
