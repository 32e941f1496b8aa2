"""Pruning a trained run: ``python -m jaxdl.prune``."""
