"""What a recipe may say: its tables, keys, defaults and limits."""
