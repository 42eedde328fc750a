"""`qrscp`, where programs of pynetdicom look for it."""
