"""Compare two runs by class and by number of training annotations."""
