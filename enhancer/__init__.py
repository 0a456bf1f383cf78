"""Super-resolution of grey images: float arrays in, float arrays out."""
