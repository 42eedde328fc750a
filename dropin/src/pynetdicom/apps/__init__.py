"""The applications, where programs of pynetdicom look for them; they are those of dicomwire."""
