"""Report what freezing saves in a training step, traced on shapes alone."""
