"""Sessions beside the conversation: the bin, pins, hits of a search."""
