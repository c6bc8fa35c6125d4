"""The loop that makes calls: alone in knowing sockets and sleeping; what it decides, it decides in pure functions."""
