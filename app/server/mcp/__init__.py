"""The MCP server (Model Context Protocol): what other programs on this computer may ask of the library."""
