"""What one can measure and draw from vokenizers and encoders."""
