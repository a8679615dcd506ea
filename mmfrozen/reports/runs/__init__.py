"""Compare runs by the logs and records in their work dirs."""
