"""ExecuTorch with XNNPACK: everything that is known of it."""
