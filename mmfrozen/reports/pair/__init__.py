"""Compare a frozen run with its control: cost first, then AP."""
