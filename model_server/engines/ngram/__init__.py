"""The engine of tuned models: an interpolated character n-gram model over text with slots."""
