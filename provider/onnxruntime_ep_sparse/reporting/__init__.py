"""A report of a model: `report()` collects the figures, `page.py` makes one self-contained HTML page of them."""
