"""Handlers of the paths: parse, ask, render."""
