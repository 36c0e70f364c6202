"""Command export: a trained model as a file for another runtime, checked against this project's predictions."""
