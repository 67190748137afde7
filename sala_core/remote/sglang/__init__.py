"""SGLang with streaming sessions: the server keeps what it has read of a session."""
