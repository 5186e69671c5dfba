"""A shop that uses django-getpaid."""
