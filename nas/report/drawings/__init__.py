"""Pictures of scan orders, architectures and search spaces, for print and for screens."""
