"""Retraining: new data in, a model judged, a report and a pull request out; `make retrain`, `make publish`."""
