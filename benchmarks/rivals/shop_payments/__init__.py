"""A shop that uses django-payments."""
