"""Checks, in every run, that frozen parts stay frozen."""
