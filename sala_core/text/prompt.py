"""The texts around documents and questions. They are in every stream, so a change needs a new STATE_FORMAT."""

SYSTEM_PROMPT = "You answer questions about the documents that follow. Quote the sentence that answers."


def document_header(name: str) -> str:
    """Return the text before the text of a document, inside its user message."""
    return f"Document: {name}\n\n"
