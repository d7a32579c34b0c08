"""edgese: EfficientNet and SE-ResNet from weights to verified mobile artifacts."""

__version__ = "0.1.0"
