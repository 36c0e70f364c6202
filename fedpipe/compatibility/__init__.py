"""Which choices go together: rules across the keys of params.yaml, each refused by name with its reason."""
