"""Sessions that other Salas keep here: what they have sent, their streams, and the work on them."""
