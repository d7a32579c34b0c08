"""Chooses the variant that meets a budget, and says why not the others."""
