"""The schemes that split samples among clients, as pure functions."""
