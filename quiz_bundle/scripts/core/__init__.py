"""What everything stands on: errors, options, frames, rigid maps, tables and files that are whole or not there."""
