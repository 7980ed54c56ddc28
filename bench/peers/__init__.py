"""The servers that are compared; each module has one, and all have the same functions."""
