"""Vision backbones composed from scan designs."""
