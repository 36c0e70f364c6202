"""Command score: a folder of PNG files and the champion -> a table of labels and probabilities."""
