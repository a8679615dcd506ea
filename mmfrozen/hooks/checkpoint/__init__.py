"""Atomic checkpoints, and runs that stop cleanly on signals."""
