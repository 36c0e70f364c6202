"""Turns an algorithm, an aggregator and a model into a learning process of TFF."""
