"""Accuracy of artifacts and models on labelled pictures, and how far two of them agree."""
