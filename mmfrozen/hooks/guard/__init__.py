"""Verify in every run that what is frozen is frozen."""
