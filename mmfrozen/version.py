"""The package's version, readable without its dependencies."""

__version__ = '0.1.0'
