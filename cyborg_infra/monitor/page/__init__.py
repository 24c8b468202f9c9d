"""The page of the monitor: values, drawing, template and routes."""
