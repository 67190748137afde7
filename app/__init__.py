"""The page, its server and the command line. Knows no tensor: everything it shows comes from `sala_core`."""
