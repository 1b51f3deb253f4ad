"""Training: profiles, the four stages, the loop that runs and resumes them, and what a run leaves behind."""
