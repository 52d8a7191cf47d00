"""What every operator needs: its record, its dispatch, its backends, threads and conformance."""
