"""The commands of `palimpsest`: clients of the HTTP API, and what starts or mends its parts."""
