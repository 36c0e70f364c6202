"""What models are made of: layers, dropout, first weights, and the file in which weights are kept."""
