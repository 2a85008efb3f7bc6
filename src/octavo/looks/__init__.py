"""Looks at a finished run: each a function from a subject to pictures, tables and a sentence that says what to see."""
