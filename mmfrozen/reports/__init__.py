"""Tables, charts and pages from what runs and traces recorded."""
