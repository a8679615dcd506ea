"""This package predicts whether a cache of a frozen backbone's features pays
off, before hours are spent on filling one."""
