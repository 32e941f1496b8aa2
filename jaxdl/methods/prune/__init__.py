"""Pruning: weights that are 0, or units that are gone."""
