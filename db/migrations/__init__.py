"""The history of the tables, one revision for each reason they changed."""
