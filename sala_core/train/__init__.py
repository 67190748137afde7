"""Training of the embedded demonstration model: tokenizer, tasks, data, network, loop, export."""
