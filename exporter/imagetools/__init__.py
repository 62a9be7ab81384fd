"""Images looked at, copied and joined between registries and stores."""
