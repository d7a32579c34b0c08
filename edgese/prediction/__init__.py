"""Latency of a network on a device that is not there, from published measurements."""
