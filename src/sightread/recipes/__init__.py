"""Complete configurations, as typed Python functions."""
