"""Stage train: federated averaging over data/clients/ -> models/, metrics/rounds.csv. The only room with TFF."""
