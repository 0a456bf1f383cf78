"""One module a command group. Each imports only click at the top; rooms are imported when a command runs."""
