"""Core ML: everything that is known of it."""
