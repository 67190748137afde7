"""Web pages, files and git repositories, fetched from the network only when the user has asked for their address."""
