"""First questions about documents, from their names, headings, definitions and symbols. No model is needed."""
