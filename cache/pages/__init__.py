"""Every picture of cached records."""
