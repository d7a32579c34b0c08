"""TFLite (LiteRT): everything that is known of it."""
