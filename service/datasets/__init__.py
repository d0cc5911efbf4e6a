"""Data sets of facts, of whatever form and from wherever, read as one type of record."""
