"""The evaluation suites, one module each."""
