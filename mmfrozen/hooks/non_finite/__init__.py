"""Find numbers that are not finite within one step, and say where."""
