"""What delegates make of an artifact: asked here where they can be, looked up where they cannot."""
