"""Data sets as their publishers ship them, read into one shape: `listing.Listing`."""
