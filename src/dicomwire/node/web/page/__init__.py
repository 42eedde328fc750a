"""The page on which people see their archive: HTML, a little JavaScript, no build."""
