"""Which aggregator bears which attack, as a table and a picture."""
