"""The trainable network: the model's operations with gradients, and how weights map to it."""
