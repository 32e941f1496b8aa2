import numpy as np

from jaxdl.consistency.options import ConsistencyConfig, ConsistencyOptions, completed, technique, with_method
from jaxdl.data import sources


def test_options_of_the_method_have_values():
    assert completed(ConsistencyOptions()).threshold == 0.95
    assert completed(ConsistencyOptions(method="pi", weight=3.0)).weight == 3
    assert completed(ConsistencyOptions(method="supervised")).weight is None


def test_pixels_are_normalized_as_all_images_are():
    """The labelled ones are too few to tell their mean."""
    source, config = sources.load("digits"), ConsistencyConfig()
    changes = technique(config, source)
    few = changes.data(source)
    assert not np.allclose(few.channel_stats()[0], source.channel_stats()[0], rtol=1e-6)
    assert changes.seen(None).mean == source.channel_stats()[0]


def test_a_training_of_a_comparison_is_one_without():
    config = with_method(ConsistencyConfig(), "pi", 3)
    assert (config.consistency.method, config.run.seed, config.consistency.compare) == ("pi", 3, False)
