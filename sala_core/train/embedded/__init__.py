"""How today's embedded model was made: a hybrid trained from a copying circuit wired by hand, without a backbone."""
