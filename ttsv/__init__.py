"""Reproduction and benchmark harness for Test-Time Steering Vectors (arXiv 2512.04748)."""

import os

__version__ = "0.1.0"

# Read when torch is loaded, so before anything else here. Threads that spin at barriers make a busy machine ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
