"""The face of the product: the command line, and `bylaw.client`, the Python client with its middleware."""

__version__ = "0.1.0"
