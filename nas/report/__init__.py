"""What people see: tables, live progress, profiles."""
