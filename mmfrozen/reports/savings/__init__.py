"""What freezing saves: a training step traced on shapes alone."""
