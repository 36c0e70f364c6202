"""The parts of models: layers, dropout, first weights, and the file in which weights are kept."""
