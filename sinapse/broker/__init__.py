"""Redis for the daemon."""
