"""How the ledger lies on disk: the schema, and what each database does its own way. SQLAlchemy stays in here."""
