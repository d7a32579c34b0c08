"""Model families as tables of typed rows, the one builder, weights and cost."""
