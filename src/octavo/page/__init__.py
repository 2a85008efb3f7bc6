"""One self-contained HTML page of what was found: pictures, tables and text in a single file that asks for no other."""
