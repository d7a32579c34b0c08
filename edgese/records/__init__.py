"""Every value that crosses a stage or touches disk."""
