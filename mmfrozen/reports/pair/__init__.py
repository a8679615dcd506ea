"""A frozen run beside its control: cost first, then AP."""
