"""Detection of NaN and infinity within one step, with their source."""
