"""The trainable network: the model's operations with gradients, and the conversion of weights to it."""
