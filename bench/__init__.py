"""Benchmarks: Bylaw beside its peers, in one run on one machine, so that the ratios mean something."""
