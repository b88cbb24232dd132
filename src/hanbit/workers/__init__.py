"""`hanbit serve --workers N`: a parent that holds the folder and the ports, and several servers below it on one book."""
