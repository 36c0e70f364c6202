"""How clients' updates become one, one way per file; the file's name is the value of ``train.aggregator``."""
