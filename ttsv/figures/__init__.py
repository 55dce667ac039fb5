"""Figures, drawn from frames alone: a file per kind of figure, one style for all."""
