"""The model: configuration, weights, forward pass and state."""
