"""What a user does, a module a verb."""
