"""How good an edit is, in the names of both schools."""
