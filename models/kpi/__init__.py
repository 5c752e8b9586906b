"""Customer-success metrics, each with one exact definition: additive figures, the functions over them, and the catalogue."""
