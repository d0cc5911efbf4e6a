"""One process that holds one model, edits it and generates with it."""
