"""Tools for a ledger at rest: check it, restore it, clear away what nothing names, take it elsewhere."""
