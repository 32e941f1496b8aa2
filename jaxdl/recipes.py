"""Sets of options that reach a stated accuracy; what each was measured to reach stands in the README."""

RECIPES = {
    "mlp": {
        "dataset": "mnist",
        "model": "net",
    },
    "cnn": {
        "dataset": "mnist",
        "model": "cnn",
    },
}
