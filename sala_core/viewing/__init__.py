"""What was read, shown to a person: a document's lines, the pages of its original, and the places of an answer."""
