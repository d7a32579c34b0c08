"""Pictures: reading, listing, naming and preparing them."""
