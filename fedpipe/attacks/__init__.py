"""The behaviour of attackers, one attack per file; the file's name is the value of ``train.attack``."""
