"""A customer-service desk on recorded conversations: real tools, a real database process, real kills."""
