"""What scores mean: statistics over runs, and what a proxy has been measured to see."""
