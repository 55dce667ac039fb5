"""Ways to adapt the model, a file each."""
