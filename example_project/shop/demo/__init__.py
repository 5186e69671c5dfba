"""The demo: two servers on one laptop, and a buyer who tries everything."""
