"""The face of the product: command line, and later the Python client and middleware."""

__version__ = "0.1.0"
