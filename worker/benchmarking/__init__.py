"""Benchmarks: the records of a data set edited, scored, and dropped, beside whatever else the model is asked."""
