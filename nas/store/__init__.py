"""The database: tables, sessions, migrations, queries. It alone says what happened."""
