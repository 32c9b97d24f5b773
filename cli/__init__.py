"""The command `keras-m3s`."""
