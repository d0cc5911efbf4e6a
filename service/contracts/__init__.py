"""What goes over the wire: frozen pydantic types without I/O."""
