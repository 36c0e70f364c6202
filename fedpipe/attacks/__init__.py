"""What attackers do, one attack per file; the file's name is the value of ``train.attack``."""
