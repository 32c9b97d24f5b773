"""Utilities of all wings: atomic file writes, the backend, termination, Keras' private names."""
