"""The options of what connects this program with others: the engines it uses, the API and MCP it serves."""
