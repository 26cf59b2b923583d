"""Which settings of the server are best on this machine: tries them, keeps the table that shows why."""
