"""Numbers: metrics with their rules and intervals, combinations of members, reports."""
