"""Networks: extractors and heads, built from a recipe and filled with weights."""
