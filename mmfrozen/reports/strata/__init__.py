"""Whom it helps: two runs by class and by number of annotations."""
