"""From weights to verified artifacts: planned, exported once, converted in parallel."""
