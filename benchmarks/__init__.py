"""The race: the same work in jaxdl and in PyTorch, side by side, measured so that a sceptic can check it."""
