"""Policies: uploaded, published, and published again to go back."""
