"""What a network looks at: its reach over the pixels, its scans token by token, its quadtrees."""
