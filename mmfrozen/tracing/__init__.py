"""A training step of a detector, traced on shapes alone."""
