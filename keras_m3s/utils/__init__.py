"""What every wing may use: atomic file writes, the backend, stopping on SIGTERM."""
