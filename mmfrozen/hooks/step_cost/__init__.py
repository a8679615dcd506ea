"""Measurement of what a training step costs."""
