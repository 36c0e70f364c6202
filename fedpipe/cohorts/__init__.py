"""Who is asked in a round, one way per file; the file's name is the value of ``train.cohort``."""
