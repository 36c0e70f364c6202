"""Measurements of a trained model, over all test images and for each client."""
