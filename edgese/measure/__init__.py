"""Latency and memory of artifacts on a device: plan, loop, statistics, cautions."""
