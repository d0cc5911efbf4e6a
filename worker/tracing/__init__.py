"""Causal tracing: where in a model the states lie that its answer depends on (Meng et al. 2022, section 2)."""
