"""Find the sentences of a text that answer a question, by its words, their relatives and what the question asks for."""
