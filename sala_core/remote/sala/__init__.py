"""Another Sala as the engine: documents go there once, its state stays there, and its typed events come back."""
