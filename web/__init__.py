"""The page that a browser opens: builds running and past, images and containers, for who was given a link."""
