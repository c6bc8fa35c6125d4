"""What the user wrote: the job file and its audience, checked and typed."""
