"""Measure what a training step costs."""
