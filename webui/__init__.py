"""Pages, REST and login."""
