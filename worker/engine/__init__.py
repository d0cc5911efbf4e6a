"""The resident model: its thread, its revisions, its blobs."""
