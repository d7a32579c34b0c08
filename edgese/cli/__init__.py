"""The command line: one function a command; `edgese.cli.ui` alone draws."""
