"""Sessions: conversations of a user with an agent, and what is said in them."""
