"""A network as a program: its graph and its tensors, in memory and in a file."""
