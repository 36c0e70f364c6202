"""The champion as a folder of its own: written here, and brought from elsewhere."""
