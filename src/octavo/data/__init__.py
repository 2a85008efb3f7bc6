"""Images and labels: found, decoded once, drawn into batches, made the networks' input."""
