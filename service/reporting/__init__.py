"""A benchmark's result as people read it: tables, plots, and the shapes that others' tools read."""
