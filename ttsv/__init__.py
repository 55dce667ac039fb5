"""Reproduction and benchmark harness for Test-Time Steering Vectors (arXiv 2512.04748)."""

__version__ = "0.1.0"
