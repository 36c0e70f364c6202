"""Tracking: stages write journals (journal.py), a follower ships them (delivery.py) to MLflow (mlflow_store.py).

The only room that imports MLflow, and never in a process that trains.
"""
