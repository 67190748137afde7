"""What waits for the engine: questions before readings, their place in the queue, and work of other processes."""
