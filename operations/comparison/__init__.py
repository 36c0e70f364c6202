"""All algorithms beside FedAvg on the same clients, as a table and a picture."""
