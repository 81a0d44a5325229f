"""Reports as one HTML file each: no network, no scripts, and nothing of strangers that is not escaped."""
