"""Steps where nothing may be mounted: a root of their own by chroot(2), and everything put in it."""
