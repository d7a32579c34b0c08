"""Budgets, verdicts, baselines: what a continuous build hangs on. Needs the base install alone."""
