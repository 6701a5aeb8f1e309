"""What a directory of runs holds: listed, compared, loaded, run again, exported."""
