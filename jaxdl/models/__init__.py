"""Models, one family a file, and how a command line names them."""

from jaxdl.models.cnn import CNN
from jaxdl.models.net import Net

MODELS = {"net": Net, "cnn": CNN}
