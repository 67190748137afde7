"""The routes by which other Salas read and ask on this machine (`serve --engine-for-others`)."""
