"""Making a trained run small: ``python -m jaxdl.compress``."""
