"""Sessions as single files: `.sala` files with text, source maps, conversation, evidence and model state."""
