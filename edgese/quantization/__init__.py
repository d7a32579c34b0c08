"""From an fp32 program to one quantized program, with the same integers on every runtime."""
