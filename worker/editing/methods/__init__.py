"""One file a method; the folder is discovered."""
