"""Commands for operators, who reach the database and the keys but need no token."""
