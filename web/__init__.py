"""The page that a browser opens: builds running and past, for who was given a link."""
