"""The selection of a round's clients, one way per file; the file's name is the value of ``train.cohort``."""
