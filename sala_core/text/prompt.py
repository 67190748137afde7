"""What the model is told around documents and questions. Part of every stream, so a change needs a new STATE_FORMAT."""

SYSTEM_PROMPT = "You answer questions about the documents that follow. Quote the sentence that answers."


def document_header(name: str) -> str:
    """The text before a document's own, inside its user message."""
    return f"Document: {name}\n\n"
