"""Has containers, images, networks and volumes looked after by an engine elsewhere, over Docker's API."""
