"""The HTTP side of Palimpsest: contracts, ledger, queue and API; it never touches a model."""
