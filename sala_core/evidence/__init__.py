"""Evidence: what the sparse layers attended to, mapped to places in the documents, and verified quotations."""
