"""Training: from scratch, fine-tuning, and with a teacher."""
