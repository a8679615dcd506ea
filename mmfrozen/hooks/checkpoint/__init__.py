"""Checkpoints that are always whole, and runs that stop when asked to."""
