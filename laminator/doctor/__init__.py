"""What this machine has for measured runs, and what it lacks."""
