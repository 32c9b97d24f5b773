"""Meta-training of any Keras model: `WithMissing`, `MetaModel`, `M3S`."""
