"""Algorithm 1 over any Keras model: `WithMissing`, `MetaModel`, `M3S`."""
