"""Tracing of a detector's training step on shapes only."""
