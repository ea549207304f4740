"""Facts in a database: tables, transactions, the change log, views; the only place where SQL for facts stands."""
