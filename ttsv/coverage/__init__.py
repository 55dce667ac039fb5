"""How well the intervals, tests and verdict rules do on simulated data sets whose truth is known: ``python -m ttsv.coverage --help``."""
