"""Read what runs have written; draw tables. Nothing here trains."""
