"""The OpenAI-compatible API: what other programs on this computer may ask of the model and of the library."""
